package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SafetensorsTest {
    @TempDir
    Path dir;

    private static MemorySegment segment(float... values) {
        return MemorySegment.ofArray(values);
    }

    /** A file with this JSON text as its header and so many data bytes 0, 1, 2, .. */
    private Path file(String json, int data) throws IOException {
        byte[] header = json.getBytes(StandardCharsets.UTF_8);
        ByteBuffer all = ByteBuffer.allocate(8 + header.length + data).order(ByteOrder.LITTLE_ENDIAN);
        all.putLong(header.length).put(header);
        for (int i = 0; i < data; i++) all.put((byte) i);
        return Files.write(dir.resolve("bad.safetensors"), all.array());
    }

    private void refused(String json, int data, String... mentions) throws IOException {
        Path file = file(json, data);
        Failing.data(() -> Safetensors.open(file), file);
        Failing.data(() -> Safetensors.open(file), (Object[]) mentions);
    }

    @Test
    void writesAndReadsEveryFormatBack() {
        Path file = dir.resolve("m.safetensors");
        int[] codes = {1, -2, 3};
        List<Slot> slots = List.of(new Slot("f32", StoredType.F32, 2, 2), new Slot("bf16", StoredType.BF16, 3), new Slot("f16", StoredType.F16, 1, 3),
                new Slot("codes", StoredType.I32, 3), new Slot("scalar", StoredType.F32), new Slot("empty", StoredType.F32, 0, 7));
        try (SafetensorsWriter out = SafetensorsWriter.open(file, slots, Map.of("made_by", "test"))) {
            out.writeFloats("f32", segment(1, 2, 3, Float.MIN_VALUE));
            out.writeFloats("bf16", segment(1, -0.5f, 1 / 3f));
            out.writeFloats("f16", segment(65504, 1 / 3f, 1e9f));
            out.write("codes", MemorySegment.ofArray(codes));
            out.writeFloats("scalar", segment(7));
            out.writeFloats("empty", segment());
            out.finish();
        }
        try (Safetensors in = Safetensors.open(file)) {
            assertEquals(slots.stream().map(Slot::name).toList(), in.names());
            assertEquals(Map.of("format", "pt", "made_by", "test"), in.metadata());
            assertArrayEquals(new float[] {1, 2, 3, Float.MIN_VALUE}, in.floats("f32"));
            assertArrayEquals(new float[] {1, -0.5f, Float.intBitsToFloat(0x3eab0000)}, in.floats("bf16"));
            assertArrayEquals(new float[] {65504, Float.float16ToFloat((short) 0x3555), Float.POSITIVE_INFINITY}, in.floats("f16"));
            assertArrayEquals(codes, in.bytes("codes").toArray(ValueLayout.JAVA_INT_UNALIGNED));
            assertArrayEquals(new float[] {7}, in.floats("scalar"));
            assertArrayEquals(new long[] {0, 7}, in.entry("empty").shape());
            assertEquals(0, in.floats("empty").length);
            assertEquals(1, in.entry("scalar").count());
        }
    }

    @Test
    void theDataStartsAtAMultipleOf8AndTheHeaderIsPaddedWithSpaces() throws IOException {
        for (int i = 1; i <= 9; i++) {
            Path file = dir.resolve("n" + i);
            Slot slot = new Slot("x".repeat(i), StoredType.U8, 1);
            try (SafetensorsWriter out = SafetensorsWriter.open(file, List.of(slot), Map.of())) {
                out.write(slot.name(), MemorySegment.ofArray(new byte[] {42}));
                out.finish();
            }
            byte[] bytes = Files.readAllBytes(file);
            long header = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
            assertEquals(0, (8 + header) % 8);
            assertEquals(42, bytes[(int) (8 + header)]);
            String json = new String(bytes, 8, (int) header, StandardCharsets.UTF_8);
            assertEquals("{\"__metadata__\":{\"format\":\"pt\"},\"" + slot.name()
                    + "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", json.stripTrailing());
        }
    }

    @Test
    void aLargeTensorIsConvertedInChunks() {
        float[] values = new float[(1 << 20) + 12345];
        for (int i = 0; i < values.length; i++) values[i] = (i % 256) / 8f; // exact in bf16
        Path file = dir.resolve("m");
        try (SafetensorsWriter out = SafetensorsWriter.open(file, List.of(new Slot("w", StoredType.BF16, values.length)), Map.of());
                Arena arena = Arena.ofConfined()) {
            out.writeFloats("w", arena.allocateFrom(ValueLayout.JAVA_FLOAT, values));
            out.finish();
        }
        try (Safetensors in = Safetensors.open(file); Arena arena = Arena.ofConfined()) {
            MemorySegment floats = arena.allocate(4L * values.length);
            in.read("w", floats);
            assertArrayEquals(values, floats.toArray(ValueLayout.JAVA_FLOAT));
        }
    }

    @Test
    void nothingIsLeftWhenAWriterStopsEarly() throws IOException {
        Path file = dir.resolve("m.safetensors");
        List<Slot> slots = List.of(new Slot("a", StoredType.F32, 2), new Slot("b", StoredType.F32, 2));
        try (SafetensorsWriter out = SafetensorsWriter.open(file, slots, Map.of())) {
            out.writeFloats("a", segment(1, 2));
            assertThrows(Fail.class, () -> out.writeFloats("c", segment(1, 2)), "not announced");
            assertThrows(Fail.class, () -> out.writeFloats("b", segment(1)), "too short");
            assertThrows(Fail.class, out::finish, "b is missing");
        }
        assertEquals(List.of(), AtomicFileTest.names(dir));
        assertThrows(Fail.class, () -> SafetensorsWriter.open(file, List.of(slots.get(0), slots.get(0)), Map.of()));
        Failing.io(() -> SafetensorsWriter.open(dir.resolve("no/m"), slots, Map.of()), dir.resolve("no"));
        assertEquals(List.of(), AtomicFileTest.names(dir));
    }

    @Test
    void readingTheWrongThingIsASentence() throws IOException {
        Path file = file("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"i\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[8,11]}}", 11);
        try (Safetensors in = Safetensors.open(file)) {
            Failing.data(() -> in.entry("v"), file, "no tensor v");
            Failing.data(() -> in.read("w", segment(1, 2, 3)), file, "w", "[2]", "expected 3");
            Failing.data(() -> in.floats("i"), file, "I8");
            assertFalse(in.has("v"));
        }
        Failing.data(() -> Safetensors.open(dir.resolve("none")), dir.resolve("none"), "no such file");
        Failing.data(() -> Safetensors.open(dir), dir);
    }

    @Test
    void damagedFilesAreRefused() throws IOException {
        String good = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
        Safetensors.open(file(good, 8)).close();
        Safetensors.open(file(good + "   ", 8)).close();
        refused(good, 7, "cover 8 data bytes but the file holds 7");
        refused(good, 9, "cover 8 data bytes but the file holds 9");
        refused(good + "x", 8, "not valid JSON");
        refused(good + "{}", 8, "follows");
        refused(" " + good, 8, "begins with byte 32");
        refused("[]", 0, "begins with byte 91");
        refused(good.replace("F32", "F33"), 8, "w", "F33", "expected one of");
        refused(good.replace("[2]", "[3]"), 8, "expected 12 bytes");
        refused(good.replace("[2]", "[-2]"), 8, "negative");
        refused(good.replace("[2]", "[2.0]"), 8, "whole numbers");
        refused(good.replace("[2]", "2"), 8, "not a list");
        refused(good.replace("[2]", "[4294967296,4294967296]"), 8, "more than 2^63");
        refused(good.replace("[2]", "[99999999999999999999]"), 8, "not valid JSON");
        refused(good.replace("[0,8]", "[8,0]"), 8, "spans");
        refused(good.replace("[0,8]", "[0]"), 8, "two data_offsets");
        refused(good.replace("[0,8]", "[0,8,8]"), 8, "at most 2");
        refused(good.replace("\"dtype\":\"F32\",", ""), 8, "lacks");
        refused(good.replace("\"dtype\":\"F32\",", "\"dtype\":\"F32\",\"dtype\":\"F32\","), 8, "Duplicate");
        refused(good.replace("\"dtype\"", "\"type\""), 8, "unknown key");
        refused(good.replace("{\"dtype\"", "[{\"dtype\"").replace("8]}", "8]}]"), 8, "not an object");
        refused("{\"__metadata__\":{\"a\":1}," + good.substring(1), 8, "not a text");
        refused("{\"w\":null}", 0, "not an object");
    }

    @Test
    void holesOverlapsAndTwinsAreRefused() throws IOException {
        String two = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%d,%d]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%d,%d]}}";
        Safetensors.open(file(two.formatted(4, 8, 0, 4), 8)).close();
        refused(two.formatted(0, 4, 5, 9), 9, "tensor b begins at data byte 5, expected 4");
        refused(two.formatted(0, 4, 3, 7), 7, "tensor b begins at data byte 3, expected 4");
        refused(two.formatted(1, 5, 5, 9), 9, "tensor a begins at data byte 1, expected 0");
        refused(two.formatted(0, 4, 4, 8).replace("\"b\"", "\"a\""), 8, "Duplicate");
    }

    @Test
    void badHeaderLengthsAreRefusedBeforeAnythingIsAllocated() throws IOException {
        Path file = dir.resolve("short");
        Files.write(file, new byte[0]);
        Failing.data(() -> Safetensors.open(file), file, "0 bytes long");
        for (long length : new long[] {-1, 0, 1, 93, 100_000_001, Long.MAX_VALUE, Long.MIN_VALUE}) {
            Files.write(file, ByteBuffer.allocate(100).order(ByteOrder.LITTLE_ENDIAN).putLong(length).array());
            Failing.data(() -> Safetensors.open(file), file, Long.toUnsignedString(length), "expected 2 to 92");
        }
    }

    /** A sparse file: 3 GB of zeros on no disk space, then one float. */
    @Test
    void tensorsBeyond2GigabytesAreReached() throws IOException {
        long big = 3_000_000_000L;
        Path file = file("{\"big\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]},\"tail\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}}"
                .formatted(big, big, big, big + 4), 0);
        long start = Files.size(file);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.allocate(5).order(ByteOrder.LITTLE_ENDIAN).put((byte) 9).putFloat(2.5f).flip(), start + big - 1);
        }
        try (Safetensors in = Safetensors.open(file)) {
            assertEquals(9, in.bytes("big").get(ValueLayout.JAVA_BYTE, big - 1));
            assertEquals(2.5f, in.floats("tail")[0]);
            Failing.data(() -> in.floats("big"), file, "too many for one array");
        }
    }

    /** The embedding and the first norm lie at known places in llama2.c's own file of the same model. */
    @Test
    void stories260KHoldsTheNumbersOfItsOriginalFile() throws IOException {
        ByteBuffer original = ByteBuffer.wrap(Files.readAllBytes(Shared.asset("stories260K/stories260K.bin"))).order(ByteOrder.LITTLE_ENDIAN);
        try (Safetensors in = Safetensors.open(Shared.asset("stories260K/model.safetensors"))) {
            assertEquals(47, in.names().size());
            assertArrayEquals(new long[] {512, 64}, in.entry("model.embed_tokens.weight").shape());
            float[] embedding = in.floats("model.embed_tokens.weight"), norm = in.floats("model.layers.0.input_layernorm.weight");
            for (int i = 0; i < embedding.length; i++) assertEquals(original.getFloat(28 + 4 * i), embedding[i]);
            for (int i = 0; i < norm.length; i++) assertEquals(original.getFloat(28 + 4 * (512 * 64 + i)), norm[i]);
        }
    }

    @Test
    void theOtherRealModelsHaveTheirShapes() throws IOException {
        try (Safetensors in = Safetensors.open(Shared.asset("tinystories656K/model.safetensors"))) {
            assertTrue(in.has("lm_head.weight") && !in.has("model.embed_tokens.weight"));
            assertArrayEquals(new long[] {2048, 128}, in.entry("lm_head.weight").shape());
            assertArrayEquals(new long[] {64, 128}, in.entry("model.layers.1.self_attn.k_proj.weight").shape());
            assertEquals(656_000, in.names().stream().mapToLong(n -> in.entry(n).count()).sum());
        }
        ByteBuffer q80 = ByteBuffer.wrap(Files.readAllBytes(Shared.asset("stories3M/stories3M-q80.bin"))).order(ByteOrder.LITTLE_ENDIAN);
        try (Safetensors in = Safetensors.open(Shared.asset("stories3M/model.safetensors"))) {
            assertEquals(3_148_224, in.names().stream().mapToLong(n -> in.entry(n).count()).sum());
            for (int layer = 0; layer < 6; layer++) { // v2 begins, after 256 bytes of head, with the norms in fp32
                float[] norm = in.floats("model.layers." + layer + ".input_layernorm.weight");
                for (int i = 0; i < 192; i++) assertEquals(q80.getFloat(256 + 4 * (192 * layer + i)), norm[i]);
            }
        }
    }
}
