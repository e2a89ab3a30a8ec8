package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.data.HfModelWriter.Options;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HfModelWriterTest {
    private static final JsonNode CONFIG = Json.MAPPER.createObjectNode().put("model_type", "llama").put("vocab_size", 4);
    private static final List<Slot> SLOTS = List.of(new Slot("a", StoredType.F32, 4), new Slot("b", StoredType.BF16, 4),
            new Slot("c", StoredType.F16, 2, 2), new Slot("d", StoredType.F32, 8));

    @TempDir
    Path dir;

    private static MemorySegment values(int n) {
        float[] v = new float[n];
        for (int i = 0; i < n; i++) v[i] = i - 0.5f;
        return MemorySegment.ofArray(v);
    }

    private static void writeAll(Path target, Options options) {
        try (HfModelWriter out = HfModelWriter.open(target, CONFIG, SLOTS, options)) {
            for (Slot s : SLOTS) out.writeFloats(s.name(), values((int) s.count()));
            out.finish();
        }
    }

    private static float[] floats(HfModelDir model, String name) {
        float[] v = new float[(int) model.entry(name).count()];
        model.read(name, MemorySegment.ofArray(v));
        return v;
    }

    private static void assertHoldsAll(Path target) {
        try (HfModelDir model = HfModelDir.open(target)) {
            assertEquals(CONFIG, model.config());
            for (Slot s : SLOTS) {
                assertArrayEquals(s.shape(), model.shape(s.name()));
                assertEquals(s.dtype(), model.entry(s.name()).dtype());
                assertArrayEquals((float[]) values((int) s.count()).heapBase().orElseThrow(), floats(model, s.name()));
            }
        }
    }

    @Test
    void oneFile() throws IOException {
        Path target = dir.resolve("out/model");
        writeAll(target, new Options(false, Long.MAX_VALUE, Map.of("made_by", "qat")));
        assertEquals(List.of("config.json", "model.safetensors"), AtomicFileTest.names(target));
        assertEquals(List.of("model"), AtomicFileTest.names(dir.resolve("out")));
        assertHoldsAll(target);
        assertTrue(Files.readString(target.resolve("config.json")).startsWith("{\n  \"model_type\": \"llama\",\n"));
        try (Safetensors file = Safetensors.open(target.resolve("model.safetensors"))) {
            assertEquals("qat", file.metadata().get("made_by"));
        }
    }

    @Test
    void shardsAndIndex() throws IOException {
        Path target = dir.resolve("model");
        writeAll(target, new Options(false, 24, Map.of())); // 16+8 | 8 | 32, the last alone above the limit
        assertEquals(List.of("config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors", "model.safetensors.index.json"), AtomicFileTest.names(target));
        JsonNode index = Json.object(target.resolve(HfModelDir.INDEX));
        assertEquals(64, index.at("/metadata/total_size").asLong());
        assertEquals("model-00001-of-00003.safetensors", index.at("/weight_map/b").asText());
        assertEquals("model-00003-of-00003.safetensors", index.at("/weight_map/d").asText());
        assertHoldsAll(target);
    }

    @Test
    void aFullTargetIsRefusedUnlessItIsAModelAndMayBeReplaced() throws IOException {
        Path target = Files.createDirectory(dir.resolve("model"));
        writeAll(target, Options.DEFAULT); // empty: fine
        Failing.with(Fail.USAGE, () -> writeAll(target, Options.DEFAULT), target, "not empty");
        Files.writeString(target.resolve("stale"), "");
        writeAll(target, new Options(true, 1, Map.of()));
        assertFalse(Files.exists(target.resolve("stale")));
        assertHoldsAll(target);
        assertEquals(List.of("model"), AtomicFileTest.names(dir), "neither the old model nor a temporary folder is left");

        Path home = Files.createDirectory(dir.resolve("home"));
        Files.writeString(home.resolve("diary"), "kept");
        Failing.with(Fail.USAGE, () -> writeAll(home, new Options(true, 1, Map.of())), home, "no model");
        assertEquals("kept", Files.readString(home.resolve("diary")));
        Path file = Files.writeString(dir.resolve("file"), "");
        Failing.with(Fail.USAGE, () -> writeAll(file, new Options(true, 1, Map.of())), file);
        Failing.io(() -> writeAll(file.resolve("model"), Options.DEFAULT), file);
    }

    @Test
    void anUnfinishedModelLeavesNothing() throws IOException {
        Path target = dir.resolve("model");
        try (HfModelWriter out = HfModelWriter.open(target, CONFIG, SLOTS, new Options(false, 24, Map.of()))) {
            out.writeFloats("a", values(4));
            assertThrows(Fail.class, out::finish, "three are missing");
            assertThrows(Fail.class, () -> out.writeFloats("c", values(4)), "out of order");
            out.writeFloats("b", values(4));
            out.text("extra.json", "{}");
        }
        assertEquals(List.of(), AtomicFileTest.names(dir));
    }

    @Test
    void aTargetThatFillsUpMeanwhileIsNotOverwritten() throws IOException {
        Path target = dir.resolve("model");
        try (HfModelWriter out = HfModelWriter.open(target, CONFIG, SLOTS, Options.DEFAULT)) {
            for (Slot s : SLOTS) out.writeFloats(s.name(), values((int) s.count()));
            Files.createDirectory(target);
            Files.writeString(target.resolve("config.json"), "other");
            Failing.with(Fail.USAGE, out::finish, target);
        }
        assertEquals("other", Files.readString(target.resolve("config.json")));
        assertEquals(List.of("model"), AtomicFileTest.names(dir));
    }

    @Test
    void aRealModelCopiesWholeWithItsTokenizer() throws IOException {
        Path source = Shared.asset("stories260K"), target = dir.resolve("copy");
        try (HfModelDir in = HfModelDir.open(source)) {
            List<Slot> slots = in.names().stream().map(n -> new Slot(n, in.entry(n).dtype(), in.shape(n))).toList();
            try (HfModelWriter out = HfModelWriter.open(target, in.config(), slots, new Options(false, 300_000, Map.of()))) {
                for (String n : in.names()) out.write(n, in.bytes(n));
                assertEquals(List.of("tokenizer.json", "tokenizer_config.json", "generation_config.json"), out.copyTokenizer(source));
                out.finish();
            }
            try (HfModelDir copy = HfModelDir.open(target)) {
                assertEquals(in.fingerprint(), copy.fingerprint());
                assertEquals(in.config(), copy.config());
            }
        }
        assertTrue(Files.exists(target.resolve(HfModelDir.INDEX)));
        assertEquals(-1, Files.mismatch(source.resolve("tokenizer.json"), target.resolve("tokenizer.json")));
    }
}
