package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AtomicFileTest {
    @TempDir
    Path dir;

    static List<String> names(Path folder) throws IOException {
        try (Stream<Path> inside = Files.list(folder)) {
            return inside.map(p -> p.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void writesAndReplacesWholeFiles() throws IOException {
        Path file = dir.resolve("a.txt");
        AtomicFile.write(file, "erst ä");
        AtomicFile.write(file, "dann 😀");
        assertEquals("dann 😀", Files.readString(file));
        assertEquals(List.of("a.txt"), names(dir));
    }

    @Test
    void aFileAppearsOnlyWithCommitAndLeavesTheOldOneUntouchedUntilThen() throws IOException {
        Path file = dir.resolve("a.txt");
        AtomicFile.write(file, "old");
        try (AtomicFile out = AtomicFile.open(file)) {
            out.write(MemorySegment.ofArray("half".getBytes(StandardCharsets.UTF_8)));
            assertEquals("old", Files.readString(file));
            assertEquals(2, names(dir).size(), "the temporary file is in the same folder");
        }
        assertEquals("old", Files.readString(file));
        assertEquals(List.of("a.txt"), names(dir));
    }

    @Test
    void aMissingFolderOrAFileInItsPlaceIsOneSentence() throws IOException {
        Failing.io(() -> AtomicFile.write(dir.resolve("no/such/x.txt"), "x"), "x.txt", "no such file or folder");
        Path plain = Files.writeString(dir.resolve("plain"), "");
        Failing.io(() -> AtomicFile.write(plain.resolve("x.txt"), "x"), "x.txt", "plain");
        assertEquals(List.of("plain"), names(dir));
    }

    @Test
    void aFolderUnderTheNameFailsAndLeavesNothingBehind() throws IOException {
        Path target = Files.createDirectory(dir.resolve("taken"));
        Files.writeString(target.resolve("inside"), "kept");
        Failing.io(() -> AtomicFile.write(target, "x"), target);
        assertEquals(List.of("taken"), names(dir));
        assertEquals("kept", Files.readString(target.resolve("inside")));
    }

    /** The shell's file size limit makes write(2) fail in the middle, as a full disk does. */
    @Test
    void aWriteThatFailsHalfWayEndsWithTheIoCodeAndNoFile() throws Exception {
        Path bash = Path.of("/bin/bash");
        if (!Files.isExecutable(bash)) {
            System.err.println("SKIPPED: no /bin/bash to set a file size limit with");
            Assumptions.abort("no bash");
        }
        String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        Process child = new ProcessBuilder(bash.toString(), "-c", "ulimit -f 256; exec \"$@\"", "child",
                Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:-UsePerfData", "-Xshare:auto",
                "-cp", classPath, FullDisk.class.getName(), dir.resolve("model.safetensors").toString())
                .redirectErrorStream(true).start();
        String said = new String(child.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(Fail.IO, child.waitFor(), said);
        assertTrue(said.contains("model.safetensors: cannot write: File too large"), said);
        assertEquals(List.of(), names(dir));
    }

    /** The child of the test above: writes 4 MB of tensors where 256 KB may be written. */
    static final class FullDisk {
        public static void main(String[] args) {
            var slot = new SafetensorsWriter.Slot("w", StoredType.F32, 1024, 1024);
            try (var out = SafetensorsWriter.open(Path.of(args[0]), List.of(slot), Map.of())) {
                out.writeFloats("w", MemorySegment.ofArray(new float[1 << 20]));
                out.finish();
            } catch (Fail f) {
                System.out.println(f.getMessage());
                System.exit(f.code());
            }
        }
    }

    @Test
    void whatIsWrittenInPiecesAndPatchedIsWhole() throws IOException {
        byte[] big = new byte[9 << 20];
        for (int i = 0; i < big.length; i++) big[i] = (byte) (i * 31 >> 3);
        Path file = dir.resolve("big");
        try (AtomicFile out = AtomicFile.open(file)) {
            out.write(MemorySegment.ofArray(big));
            out.patch(5, ByteBuffer.wrap(new byte[] {1, 2}));
            out.commit();
        }
        big[5] = 1;
        big[6] = 2;
        assertArrayEquals(big, Files.readAllBytes(file));
    }
}
