package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** GGUF v3 out and in, and every rule of its head. */
class GgufTest {
    @TempDir
    Path dir;

    private static Map<String, GgufValue> metadata() {
        Map<String, GgufValue> m = new LinkedHashMap<>();
        m.put("general.architecture", GgufValue.of("llama"));
        m.put("a.whole", GgufValue.of(-1));
        m.put("a.number", GgufValue.of(0.5f));
        m.put("a.flag", GgufValue.of(true));
        m.put("a.texts", GgufValue.of(List.of("", "ä", "▁the")));
        m.put("a.numbers", GgufValue.of(new float[] {1, -2}));
        m.put("a.wholes", GgufValue.of(new int[] {3, -4}));
        return m;
    }

    /** A small file: one vector, one matrix of Q8_0 blocks, one of F16. */
    static Path small(Path file) {
        var slots = List.of(new GgufWriter.Slot("v", GgmlType.F32, 3), new GgufWriter.Slot("q", GgmlType.Q8_0, 32, 2), new GgufWriter.Slot("h", GgmlType.F16, 2, 2));
        byte[] row = new byte[34];
        int[] q = new int[32];
        for (int i = 0; i < 32; i++) q[i] = i;
        GgmlType.Q8_0.encode(row, 0, q, 0, (short) 0x3c00, (short) 0);
        try (GgufWriter out = GgufWriter.open(file, metadata(), slots)) {
            out.write("v", MemorySegment.ofArray(new float[] {1, 2, 3}));
            out.write("q", MemorySegment.ofArray(row));
            out.write("q", MemorySegment.ofArray(row));
            out.write("h", MemorySegment.ofArray(new short[] {0x3c00, 0x4000, 0, (short) 0xbc00}));
            out.finish();
        }
        return file;
    }

    @Test
    void whatIsWrittenIsRead() {
        try (Gguf in = Gguf.open(small(dir.resolve("a.gguf")))) {
            assertEquals(List.of("v", "q", "h"), in.names());
            assertEquals("llama", in.text("general.architecture"));
            assertEquals(0xffffffffL, in.whole("a.whole"));
            assertEquals(0.5, in.number("a.number"));
            assertTrue(in.flag("a.flag"));
            assertEquals(List.of("", "ä", "▁the"), in.texts("a.texts"));
            assertArrayEquals(new float[] {1, -2}, in.numbers("a.numbers"));
            assertArrayEquals(new int[] {3, -4}, in.wholes("a.wholes"));
            float[] v = new float[3], q = new float[64], h = new float[4];
            in.read("v", MemorySegment.ofArray(v));
            in.read("q", MemorySegment.ofArray(q));
            in.read("h", MemorySegment.ofArray(h));
            assertArrayEquals(new float[] {1, 2, 3}, v);
            assertEquals(31, q[63]);
            assertArrayEquals(new float[] {1, 2, 0, -1}, h);
            assertEquals(0, in.entry("v").begin());
            assertEquals(32, in.entry("q").begin()); // 12 bytes, padded
            assertEquals(32 + 96, in.entry("h").begin()); // 68 bytes, padded
            assertArrayEquals(new long[] {32, 2}, in.entry("q").ne());
            Failing.data(() -> in.whole("a.texts"), "a.texts", "single value");
            Failing.data(() -> in.text("a.flag"), "a.flag", "a text");
            Failing.data(() -> in.flag("a.whole"), "a.whole");
            Failing.data(() -> in.wholes("a.numbers"), "a.numbers");
            Failing.data(() -> in.text("nothing"), "nothing");
            Failing.data(() -> in.entry("w"), "w", "3 others");
            Failing.data(() -> in.read("v", MemorySegment.ofArray(new float[4])), "3 weights", "expected 4");
        }
    }

    @Test
    void theHeadIsTheseBytes() throws IOException {
        Path file = dir.resolve("tiny.gguf");
        try (GgufWriter out = GgufWriter.open(file, Map.of("k", GgufValue.of(7)), List.of(new GgufWriter.Slot("t", GgmlType.F32, 1)))) {
            out.write("t", MemorySegment.ofArray(new float[] {1}));
            out.finish();
        }
        String head = "47475546" + "03000000" + "0100000000000000" + "0100000000000000"
                + "0100000000000000" + "6b" + "04000000" + "07000000"
                + "0100000000000000" + "74" + "01000000" + "0100000000000000" + "00000000" + "0000000000000000";
        String padding = "00".repeat(32 - (head.length() / 2) % 32);
        assertEquals(head + padding + "0000803f" + "00".repeat(28), HexFormat.of().formatHex(Files.readAllBytes(file)));
    }

    @Test
    void onlyAWholeFileGetsItsName() throws IOException {
        Path file = dir.resolve("half.gguf");
        try (GgufWriter out = GgufWriter.open(file, Map.of(), List.of(new GgufWriter.Slot("t", GgmlType.F32, 2)))) {
            out.write("t", MemorySegment.ofArray(new float[] {1}));
            assertThrows(Fail.class, out::finish);
            assertThrows(Fail.class, () -> out.write("other", MemorySegment.ofArray(new float[1])));
            assertThrows(Fail.class, () -> out.write("t", MemorySegment.ofArray(new float[2])));
        }
        try (Stream<Path> left = Files.list(dir)) {
            assertEquals(0, left.count());
        }
    }

    @Test
    void everyTruncationIsRefused() throws IOException {
        byte[] whole = Files.readAllBytes(small(dir.resolve("a.gguf")));
        int needed = whole.length - 24; // the last tensor's 8 bytes are padded to 32, and padding may be missing
        for (int n = 0; n < needed; n++) {
            byte[] part = Arrays.copyOf(whole, n);
            Failing.data(() -> new GgufHeader(Path.of("cut.gguf"), MemorySegment.ofArray(part)), "cut.gguf");
        }
        assertFalse(new GgufHeader(Path.of("cut.gguf"), MemorySegment.ofArray(Arrays.copyOf(whole, needed))).entries.isEmpty());
    }

    /** Bytes of a head in which one thing is wrong. */
    private static void refused(byte[] file, Object... mentions) {
        Failing.data(() -> new GgufHeader(Path.of("bad.gguf"), MemorySegment.ofArray(file)), mentions);
    }

    private static byte[] head(int tensors, int keys, Object... parts) {
        ByteBuffer b = ByteBuffer.allocate(4096).order(ByteOrder.LITTLE_ENDIAN).put("GGUF".getBytes(StandardCharsets.US_ASCII)).putInt(3).putLong(tensors).putLong(keys);
        for (Object p : parts) {
            switch (p) {
                case Integer i -> b.putInt(i);
                case Long l -> b.putLong(l);
                case String s -> b.putLong(s.length()).put(s.getBytes(StandardCharsets.US_ASCII));
                default -> throw new IllegalArgumentException(p.toString());
            }
        }
        return b.array();
    }

    @Test
    void everyRuleOfTheHeadIsKept() {
        refused("GGML....................................".getBytes(StandardCharsets.US_ASCII), "GGUF");
        byte[] old = head(0, 0);
        old[4] = 2;
        refused(old, "version 2");
        refused(head(0, -1), "room");
        refused(head(1 << 20, 0), "tensors", "room");
        refused(head(0, 2, "k", 4, 1, "k", 4, 2), "twice");
        refused(head(0, 1, ""), "empty");
        refused(head(0, 1, "k", 13, 1), "unknown type 13");
        refused(head(0, 1, "k", 9, 9, 1L), "elements of type 9");
        refused(head(0, 1, "k", 9, 8, 1L << 60), "room");
        refused(head(0, 1, "k", 9, 4, -1L), "room");
        refused(head(0, 1, "general.alignment", 4, 24), "power of two");
        refused(head(0, 1, "general.alignment", 4, 0), "power of two");
        refused(head(0, 1, "general.alignment", 8, "32"), "no u32");
        refused(head(1, 0, "t".repeat(64), 1, 4L, 0, 0L), "64 bytes long");
        refused(head(2, 0, "t", 1, 4L, 0, 0L, "t", 1, 4L, 0, 32L), "twice");
        refused(head(1, 0, "t", 5, 1L, 1L, 1L, 1L, 1L, 0, 0L), "5 dimensions");
        refused(head(1, 0, "t", 0, 0, 0L), "0 dimensions");
        refused(head(1, 0, "t", 1, 33L, 8, 0L), "no multiple of Q8_0's 32");
        refused(head(1, 0, "t", 1, 4L, 4, 0L), "ggml type 4");
        refused(head(1, 0, "t", 2, 1L << 32, 1L << 32, 0, 0L), "larger than the file");
        refused(head(1, 0, "t", 1, -32L, 0, 0L), "larger than the file");
        refused(head(1, 0, "t", 1, 4L, 0, 32L), "does not begin at data byte 0");
        refused(head(2, 0, "t", 1, 4L, 0, 0L, "u", 1, 4L, 0, 16L), "u does not begin at data byte 32");
        refused(head(1, 0, "t", 1, 1020L, 0, 0L), "ends at data byte 4080");
    }
}
