package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The folder of compiled kernels: nothing compiled twice, nothing broken used, nothing unreadable said. */
class KernelsTest {
    @TempDir
    Path cache;

    /** A compiler that hands the text back and says how often it was asked. */
    private static final class Echo implements Kernels.Compiler {
        private final String identity;
        private int asked;

        Echo(String identity) {
            this.identity = identity;
        }

        @Override
        public String identity() {
            return identity;
        }

        @Override
        public synchronized byte[] compile(Kernels.Source source, List<String> options) {
            asked++;
            return (source.text() + options).getBytes(StandardCharsets.UTF_8);
        }
    }

    private static Kernels.Source source(String text, String header) {
        return new Kernels.Source("k.cu", text, Map.of("common.cuh", header));
    }

    private int asked(String identity, Kernels.Source source, String... options) {
        Echo echo = new Echo(identity);
        byte[] image = new Kernels(cache, echo).image(source, List.of(options));
        assertEquals(source.text() + List.of(options), new String(image, StandardCharsets.UTF_8));
        return echo.asked;
    }

    @Test
    void anEntryDependsOnEverythingThatMadeIt() {
        assertEquals(1, asked("sm_80, NVRTC 12.6", source("a", "h")));
        assertEquals(0, asked("sm_80, NVRTC 12.6", source("a", "h")));
        assertEquals(1, asked("sm_80, NVRTC 12.6", source("b", "h")));
        assertEquals(1, asked("sm_80, NVRTC 12.6", source("a", "i")));
        assertEquals(1, asked("sm_90, NVRTC 12.6", source("a", "h")));
        assertEquals(1, asked("sm_80, NVRTC 12.8", source("a", "h")));
        assertEquals(1, asked("sm_80, NVRTC 12.6", source("a", "h"), "-DD=64"));
        assertEquals(0, asked("sm_80, NVRTC 12.6", source("a", "h"), "-DD=64"));
    }

    @Test
    void aBrokenEntryIsMadeAnew() throws IOException {
        asked("x", source("some text", "h"));
        Path entry = entries().getFirst();
        byte[] good = Files.readAllBytes(entry);
        for (int length : new int[] {0, 10, good.length - 1}) {
            Files.write(entry, java.util.Arrays.copyOf(good, length));
            assertEquals(1, asked("x", source("some text", "h")), "cut to " + length);
            assertArrayEquals(good, Files.readAllBytes(entry));
        }
        byte[] flipped = good.clone();
        flipped[good.length - 1] ^= 1;
        Files.write(entry, flipped);
        assertEquals(1, asked("x", source("some text", "h")), "one bit");
        assertEquals(0, asked("x", source("some text", "h")));
    }

    private List<Path> entries() throws IOException {
        try (Stream<Path> s = Files.list(cache)) {
            return s.toList();
        }
    }

    @Test
    void manyAtOnceNeverSeeHalfAnEntry() throws Exception {
        Kernels.Source source = source("x".repeat(1 << 20), "h");
        List<Thread> threads = new ArrayList<>();
        List<Throwable> thrown = new ArrayList<>();
        for (int i = 0; i < 4; i++) threads.add(Thread.ofPlatform().start(() -> {
            try {
                for (int j = 0; j < 5; j++) {
                    asked("x", source);
                    Files.deleteIfExists(entryOf());
                }
            } catch (Throwable t) {
                synchronized (thrown) {
                    thrown.add(t);
                }
            }
        }));
        for (Thread t : threads) t.join();
        assertEquals(List.of(), thrown);
        asked("x", source);
        assertEquals(1, entries().size(), "nothing is left lying about");
    }

    private Path entryOf() throws IOException {
        try (Stream<Path> s = Files.list(cache)) {
            return s.filter(p -> !p.toString().endsWith(".tmp")).findFirst().orElse(cache.resolve("none"));
        }
    }

    @Test
    void aFolderThatCannotBeWrittenIsNoReasonToStop() throws IOException {
        Path file = Files.writeString(cache.resolve("file"), "not a folder");
        Echo echo = new Echo("x");
        Kernels kernels = new Kernels(file.resolve("below"), echo);
        assertEquals("a[]", new String(kernels.image(source("a", "h"), List.of()), StandardCharsets.UTF_8));
        assertEquals(1, kernels.compiled());
    }

    @Test
    void headersAreFoundThroughIncludes() {
        Kernels.Source s = Kernels.source("test/reduce");
        assertEquals("test/reduce.cu", s.name());
        assertEquals(List.of("common.cuh"), List.copyOf(s.headers().keySet()));
        assertTrue(s.headers().get("common.cuh").contains("mma.sync.aligned.m16n8k16"));
        assertTrue(assertThrows(Fail.class, () -> Kernels.source("test/none")).getMessage().contains("/kernels/test/none.cu"));
    }

    @Test
    void aSecondDeviceCompilesNothing() throws IOException {
        StandIn.load();
        StandIn.reset();
        try (JCudaDevice first = JCudaDevice.open(0, cache); JCudaDevice second = JCudaDevice.open(0, cache)) {
            first.kernel("test/reduce", "rowSums");
            first.kernel("test/reduce", "blockSums");
            assertEquals(1, first.compiled(), "one file, two functions");
            first.kernel("test/reduce", "rowSums", "OTHER=1");
            assertEquals(2, first.compiled());
            second.kernel("test/reduce", "blockSums");
            assertEquals(0, second.compiled());
        }
        for (Path e : entries()) Files.write(e, new byte[] {1, 2, 3});
        try (JCudaDevice third = JCudaDevice.open(0, cache)) {
            long x = Floats.put(third, "x", 1, 2), y = third.alloc("y", 4);
            third.launch("test/reduce", "rowSums", Blocks.of(1, 32), y, x, 1, 2);
            assertArrayEquals(new float[] {3}, Floats.get(third, y, 1));
            assertEquals(1, third.compiled());
        }
    }

    @Test
    void aCompileErrorShowsTheLinesWithTheirNumbers() {
        try (JCudaDevice dev = StandIn.open()) {
            Fail fail = assertThrows(Fail.class, () -> dev.kernel("test/broken", "broken"));
            String said = fail.getMessage();
            assertEquals(Fail.INTERNAL, fail.code());
            assertTrue(said.startsWith("test/broken.cu does not compile with [] for sm_"), said);
            assertTrue(said.contains("\n>   6      y[0] = undeclared;"), said);
            assertTrue(said.contains("\n    3  #include \"common.cuh\""), said);
            assertNotEquals(-1, said.indexOf("undeclared"));
        }
    }
}
