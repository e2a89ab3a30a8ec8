package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Whatever the bytes, opening and reading either works or fails with a sentence, within memory proportional to the file. */
class GgufFuzzTest {
    private static final long[] SPICE = {0, 1, -1, 7, 8, 9, 32, 255, 1 << 16, 1 << 24, Integer.MAX_VALUE, 1L << 31, 1L << 32, 1L << 60, 1L << 62, Long.MAX_VALUE, Long.MIN_VALUE};

    @TempDir
    Path dir;

    private static byte[] mutated(byte[] seed, Random random) {
        byte[] b = seed.clone();
        ByteBuffer words = ByteBuffer.wrap(b).order(ByteOrder.LITTLE_ENDIAN);
        for (int k = 1 + random.nextInt(3); k > 0; k--) {
            int at = random.nextInt(b.length - 8);
            switch (random.nextInt(4)) {
                case 0 -> b[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> b[at] = (byte) random.nextInt();
                case 2 -> words.putLong(at, SPICE[random.nextInt(SPICE.length)]);
                default -> words.putInt(at, (int) SPICE[random.nextInt(SPICE.length)]);
            }
        }
        return random.nextInt(10) == 0 ? Arrays.copyOf(b, random.nextInt(b.length)) : b;
    }

    @Test
    void mutatedFilesFailWithASentence() throws Exception {
        byte[] seed = Files.readAllBytes(GgufTest.small(dir.resolve("seed.gguf")));
        Path file = dir.resolve("fuzzed.gguf");
        Random random = new Random(20261122);
        int accepted = 0, rounds = 6000;
        for (int i = 0; i < rounds; i++) {
            Files.write(file, mutated(seed, random));
            try (Gguf in = Gguf.open(file)) {
                for (String name : in.names()) in.read(name, MemorySegment.ofArray(new float[(int) in.entry(name).count()]));
                for (String key : in.keys()) touch(in, key);
                accepted++;
            } catch (Fail f) {
                assertEquals(Fail.DATA, f.code(), f.getMessage());
                assertTrue(f.getMessage().contains(file.toString()) && f.getMessage().length() < 2000 && !f.getMessage().contains("\n"), f.getMessage());
            }
        }
        // Both outcomes must occur, or the fuzzing tests nothing (changed weights and texts stay valid).
        assertTrue(accepted > rounds / 20 && accepted < rounds * 9 / 10, "accepted " + accepted);
    }

    private static void touch(Gguf in, String key) {
        for (Runnable read : new Runnable[] {() -> in.text(key), () -> in.whole(key), () -> in.number(key), () -> in.flag(key), () -> in.texts(key),
            () -> in.numbers(key), () -> in.wholes(key)}) {
            try {
                read.run();
            } catch (Fail f) {
                assertEquals(Fail.DATA, f.code());
            }
        }
    }

    @Test
    void hostileCountsCostNothing() throws Exception {
        byte[] seed = Files.readAllBytes(GgufTest.small(dir.resolve("seed.gguf")));
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        for (int at = 4; at < seed.length - 8; at++) {
            for (long n : new long[] {Long.MAX_VALUE, Integer.MAX_VALUE, 1L << 40, 1 << 28}) {
                byte[] b = seed.clone();
                ByteBuffer.wrap(b).order(ByteOrder.LITTLE_ENDIAN).putLong(at, n);
                long before = threads.getCurrentThreadAllocatedBytes();
                try {
                    assertTrue(new GgufHeader(Path.of("hostile.gguf"), MemorySegment.ofArray(b)).entries.size() <= 3);
                } catch (Fail f) {
                    assertEquals(Fail.DATA, f.code());
                }
                long used = threads.getCurrentThreadAllocatedBytes() - before;
                assertTrue(used < 300_000, "byte " + at + " = " + n + " used " + used);
            }
        }
    }
}
