package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.GgmlType;
import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.StoredType;
import dev.qat.model.Linear;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeSet;
import java.util.function.BiFunction;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every target written and read back: each weight is (code − zero) · fp16(step), bit for bit. */
class RoundTripTest {
    @TempDir
    Path dir;
    @AutoClose
    private final CpuBackend backend = new CpuBackend(1);

    private Tiny tiny(BiFunction<Linear, Random, Lattice> codes) {
        return Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(codes);
    }

    private static BiFunction<Linear, Random, Lattice> codes(String kind, int bits, int group) {
        return switch (kind) {
            case "sym" -> Tiny.symmetric(bits, group);
            case "asym" -> Tiny.asymmetric(bits, group);
            case "tri" -> Tiny.ternary(group);
            default -> (l, random) -> Tiny.lattice(l, random, bits, group, 1, (1 << bits) - 1); // asymmetric, no zero point of 0
        };
    }

    private Proof proved(String target, Frozen model, Path path) {
        Report report = Exports.of(target, Exports.Options.DEFAULT).write(path, model);
        assertNull(report.moved());
        assertTrue(report.maxScaleMove() < 1.0 / 1024, target + " moved a step by " + report.maxScaleMove());
        try (Frozen written = Exports.open(path)) {
            return Proof.of(model, written, report);
        }
    }

    @ParameterizedTest
    @CsvSource({"hf,asym,3,32", "gptq,sym,4,32", "gptq,one,4,16", "gptq,sym,3,0", "gptq,sym,2,32", "gptq,sym,8,32", "gptq-v2,asym,2,32", "gptq-v2,asym,3,32",
        "gptq-v2,asym,4,0", "gptq-v2,asym,5,32", "gptq-v2,asym,8,16", "awq,asym,4,32", "awq,asym,3,0", "compressed-tensors,sym,4,32", "compressed-tensors,sym,3,0",
        "compressed-tensors,asym,3,32", "compressed-tensors,asym,2,16", "compressed-tensors,asym,8,0", "compressed-tensors,sym,5,32", "gguf:f32,asym,3,0", "gguf:f16,asym,3,0",
        "gguf:q4_0,sym,4,32", "gguf:q4_0,asym,3,32", "gguf:q4_0,asym,2,64", "gguf:q4_1,asym,4,32", "gguf:q8_0,asym,4,32", "gguf:q8_0,sym,8,0", "gguf:q2_0,tri,2,64",
        "gguf:q2_0,one,2,64", "gguf:tq2_0,tri,2,256", "gguf:tq1_0,tri,2,256", "gguf:q2_0,tri,2,256", "gguf:tq2_0,tri,2,0", "gguf:tq1_0,tri,2,32"})
    void everyWeightComesBack(String target, String kind, int bits, int group) {
        // rows of 64 and 96, so a group of 64 takes the whole row of 96; ternary blocks need rows of 256
        boolean wide = kind.equals("tri") && group == 256;
        Tiny tiny = Tiny.of(dir.resolve("source"), backend, "llama", wide ? 256 : 64, wide ? 256 : 96, "")
                .quantize((l, random) -> codes(kind, bits, group > 0 && l.inputs() % group == 0 ? group : 0).apply(l, random));
        long weights = tiny.model.linears().stream().mapToLong(l -> l.weight.value().size()).sum();
        Path path = dir.resolve(target.startsWith("gguf") ? "out.gguf" : "out");
        Proof proof = proved(target, tiny.frozen(), path);
        assertEquals(weights, proof.weights());
        assertTrue(proof.rest() < 0.001, target + " rest " + proof.rest());
    }

    /** Ternary codes in groups of 256 are in every target's lattice: no name in the registry escapes. */
    @Test
    void everyTargetKeepsTernaryCodes() {
        Tiny tiny = Tiny.of(dir.resolve("source"), backend, "llama", 256, 256, "").quantize(Tiny.ternary(256));
        for (String target : Exports.names()) {
            if (target.equals("gguf:q2_k")) continue; // of two levels; see TargetTest
            Path path = dir.resolve(target.replace(':', '-'));
            assertEquals(14, tiny.frozen().quantized().size());
            assertEquals(2 * (2L * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 256), proved(target, tiny.frozen(), path).weights(), target);
        }
    }

    /** Tensors spread over many files, with the index that says where each is. */
    @ParameterizedTest
    @ValueSource(strings = {"hf", "gptq-v2", "awq", "compressed-tensors", "compressed-tensors:bf16"})
    void shardsAreReadBack(String target) throws Exception {
        Tiny tiny = tiny(Tiny.asymmetric(4, 32));
        Path path = dir.resolve("shards");
        Report report = Exports.of(target, Exports.Options.DEFAULT.shards(20_000)).write(path, tiny.frozen());
        JsonNode index = new ObjectMapper().readTree(path.resolve("model.safetensors.index.json").toFile());
        assertTrue(Files.notExists(path.resolve("model.safetensors")));
        assertEquals(report.bytes(), index.at("/metadata/total_size").asLong());
        TreeSet<String> files = new TreeSet<>();
        index.path("weight_map").forEach(f -> files.add(f.asText()));
        assertTrue(files.size() > 2 && files.contains("model-00001-of-%05d.safetensors".formatted(files.size())), files.toString());
        for (String name : files) {
            try (Safetensors shard = Safetensors.open(path.resolve(name))) {
                long bytes = shard.names().stream().mapToLong(t -> shard.bytes(t).byteSize()).sum();
                assertTrue(bytes <= 20_000 || shard.names().size() == 1, name + " holds " + bytes);
                for (String tensor : shard.names()) assertEquals(name, index.path("weight_map").path(tensor).asText(), tensor);
            }
        }
        try (Frozen written = Exports.open(path)) {
            assertEquals(61_440, Proof.of(tiny.frozen(), written, report).weights());
        }
        Files.delete(path.resolve(files.last()));
        Failing.with(Fail.DATA, () -> Exports.open(path), files.last(), "missing");
    }

    @Test
    void aReaderGivesBackTheCodesThemselves() {
        Tiny tiny = tiny(Tiny.asymmetric(3, 32));
        FrozenModel model = tiny.frozen();
        for (String target : List.of("gptq-v2", "compressed-tensors")) {
            Exports.of(target, Exports.Options.DEFAULT).write(dir.resolve(target), model);
            try (Frozen back = Exports.open(dir.resolve(target))) {
                for (String name : model.quantized()) {
                    Lattice a = model.lattice(name), b = back.lattice(name);
                    assertArrayEquals(a.words(), b.words(), target);
                    assertArrayEquals(a.zero(), b.zero(), target);
                    assertArrayEquals(HalfSteps.of(a, Half.FP16).values(), b.step(), target);
                    assertEquals(a.group(), b.group());
                }
            }
        }
    }

    @Test
    void aRunsDirectoryIsReadBack() {
        Tiny tiny = tiny(Tiny.asymmetric(2, 32));
        try (FrozenDir run = FrozenDir.open(tiny.run(dir.resolve("run")).resolve("model"), Map.of("name", "it"))) {
            assertEquals(Map.of("name", "it", "backend", "test"), run.notes());
            assertEquals(14, run.quantized().size());
            assertEquals(tiny.frozen().lattice(run.quantized().getFirst()).step()[3], run.lattice(run.quantized().getFirst()).step()[3]);
            proved("gptq-v2", run, dir.resolve("gptq"));
            proved("gguf:q4_0", run, dir.resolve("out.gguf"));
        }
        try (GgufIn in = GgufIn.open(dir.resolve("out.gguf"))) {
            assertEquals("it", in.notes().get("name"));
            assertEquals(GgmlType.Q4_0, in.type("model.layers.0.mlp.down_proj.weight"));
            assertEquals(tiny.model.config, in.config());
        }
    }

    @Test
    void embeddingsAreStoredByChoice() {
        Tiny tiny = Tiny.of(dir.resolve("source"), backend, "llama", 256, 256, "\"tie_word_embeddings\": true,").quantize(Tiny.symmetric(4, 32));
        for (GgmlType ends : Exports.Options.ENDS) {
            Report r = Exports.of("gguf:q4_0", new Exports.Options(ends, false)).write(dir.resolve("e.gguf"), tiny.frozen());
            try (GgufIn in = GgufIn.open(dir.resolve("e.gguf"))) {
                assertEquals(ends, in.type("model.embed_tokens.weight"));
                assertTrue(Proof.of(tiny.frozen(), in, r).rest() < (ends == GgmlType.Q6_K ? 0.05 : 0.01));
                assertTrue(in.config().tied());
            }
        }
        Tiny narrow = Tiny.of(dir.resolve("narrow"), backend, "llama", 64, 64, "").quantize(Tiny.symmetric(4, 32));
        Report r = Exports.of("gguf:q4_0", new Exports.Options(GgmlType.Q6_K, false)).write(dir.resolve("n.gguf"), narrow.frozen());
        assertEquals(List.of("2 tensors are stored as Q8_0 instead of Q6_K: rows of 64 are no multiple of 256"), r.remarks());
    }

    @Test
    void proofSeesASingleWrongCode() {
        Tiny tiny = tiny(Tiny.symmetric(4, 32));
        Path file = dir.resolve("x.gguf");
        Report r = Exports.of("gguf:q4_0", Exports.Options.DEFAULT).write(file, tiny.frozen());
        Lattice l = tiny.frozen().lattice("model.layers.1.mlp.up_proj");
        int[] words = l.words().clone();
        words[17] ^= 1 << 9;
        Tiny other = tiny((linear, _) -> linear.name.equals(l.name()) ? new Lattice(l.name(), 4, 32, l.rows(), l.cols(), words, l.step(), l.zero(), null)
                : tiny.frozen().lattice(linear.name));
        try (GgufIn in = GgufIn.open(file)) {
            Failing.with(Fail.DATA, () -> Proof.of(other.frozen(), in, r), "model.layers.1.mlp.up_proj.weight", "do not use it");
        }
    }

    @Test
    void whatDoesNotFitIsRefusedWithWhatDoes() throws Exception {
        refused("gguf:q4_0", Tiny.asymmetric(4, 32), "gguf:q4_1 (minima rounded), gguf:q8_0", "--requantize");
        refused("gguf:tq2_0", (l, random) -> Tiny.lattice(l, random, 2, 32, 1, 3), "beyond -1 to 1", "gguf:q4_0");
        refused("gguf:q4_0", Tiny.symmetric(4, 16), "shared by 16 weights", "gptq-v2");
        refused("gptq", Tiny.asymmetric(4, 32), "gptq-v2");
        refused("awq", Tiny.symmetric(8, 32), "AWQ holds 4");
        refused("gguf:q8_0", (l, random) -> Tiny.lattice(l, random, 8, 32, 0, 255), "beyond -128 to 127", "gguf:f32 and gptq-v2");
        Tiny plain = Tiny.of(dir.resolve("plain"), backend, "llama", 64, 96, "");
        Failing.with(Fail.USAGE, () -> Exports.of("awq", Exports.Options.DEFAULT).write(dir.resolve("no"), plain.frozen()), "no quantized linear");
        Failing.with(Fail.USAGE, () -> Exports.of("gguf:q4_0", Exports.Options.DEFAULT).write(dir.resolve("no"), plain.frozen()), "no trained codes");
        Failing.with(Fail.USAGE, () -> Exports.of("gguf:q9", Exports.Options.DEFAULT), "gguf:q9", "gguf:tq1_0");
        Failing.with(Fail.USAGE, () -> Exports.of("awq", new Exports.Options(GgmlType.F16, true)), "--requantize");
        Failing.with(Fail.USAGE, () -> new Exports.Options(GgmlType.Q2_K, false), "q2_k");
    }

    private void refused(String target, BiFunction<Linear, Random, Lattice> codes, Object... mentions) {
        Failing.with(Fail.USAGE, () -> Exports.of(target, Exports.Options.DEFAULT).write(dir.resolve("no"), tiny(codes).frozen()), mentions);
        assertTrue(Files.notExists(dir.resolve("no")), target);
    }

    /** GPTQ tools write biases of zeros everywhere; one that is not zero must not be lost in silence. */
    @Test
    void whatNobodyReadsIsRefused() throws Exception {
        Tiny tiny = tiny(Tiny.symmetric(4, 32));
        Path path = dir.resolve("biased");
        Exports.of("gptq", Exports.Options.DEFAULT).write(path, tiny.frozen());
        String bias = "model.layers.0.mlp.down_proj.bias";
        for (float value : new float[] {0, 1}) {
            Path file = path.resolve("model.safetensors"), other = dir.resolve("other.safetensors");
            try (Safetensors in = Safetensors.open(file)) {
                List<SafetensorsWriter.Slot> slots = new ArrayList<>();
                for (String name : in.names()) if (!name.equals(bias)) slots.add(new SafetensorsWriter.Slot(name, in.entry(name).dtype(), in.entry(name).shape()));
                slots.add(new SafetensorsWriter.Slot(bias, StoredType.F32, 64));
                float[] values = new float[64];
                values[63] = value;
                try (SafetensorsWriter out = SafetensorsWriter.open(other, slots, Map.of())) {
                    for (String name : in.names()) if (!name.equals(bias)) out.write(name, in.bytes(name));
                    out.write(bias, MemorySegment.ofArray(values));
                    out.finish();
                }
            }
            Files.move(other, file, StandardCopyOption.REPLACE_EXISTING);
            if (value == 0) PackedIn.open(path).close();
            else Failing.with(Fail.DATA, () -> PackedIn.open(path), bias, "mlp_bias");
        }
    }

    @Test
    void roundedMinimaAreReported() {
        Tiny tiny = tiny(Tiny.asymmetric(4, 32));
        Report r = Exports.of("gguf:q4_1", Exports.Options.DEFAULT).write(dir.resolve("m.gguf"), tiny.frozen());
        assertTrue(r.maxOffsetMove() > 1e-4 && r.maxOffsetMove() < 0.01, "moved " + r.maxOffsetMove());
        Report none = Exports.of("gguf:q8_0", Exports.Options.DEFAULT).write(dir.resolve("m.gguf"), tiny.frozen());
        assertEquals(0, none.maxOffsetMove());
    }

    /** A lattice that the target's own grid happens to contain: only the steps' rounding changes it, and that is not called a move. */
    @Test
    void whatStaysIsNotCountedAsMoved() {
        Tiny tiny = tiny((l, random) -> {
            Lattice t = Tiny.lattice(l, random, 4, 32, 8, 15);
            int[] codes = new int[t.rows() * t.cols()];
            for (int i = 0; i < codes.length; i++) codes[i] = i % 32 == 0 ? 0 : random.nextInt(16); // each block reaches -8
            return Lattice.of(l.name, 4, 32, t.rows(), t.cols(), codes, t.step(), t.zero());
        });
        Report r = Exports.of("gguf:q4_0", new Exports.Options(GgmlType.F16, true)).write(dir.resolve("same.gguf"), tiny.frozen());
        assertEquals(0, r.moved().share());
        assertTrue(r.moved().rmse() < 0.001, r.moved().toString());
    }

    @Test
    void roundingAgainSaysWhatMoves() {
        Tiny tiny = tiny(Tiny.asymmetric(4, 32));
        Report r = Exports.of("gguf:q4_0", new Exports.Options(GgmlType.F16, true)).write(dir.resolve("again.gguf"), tiny.frozen());
        assertTrue(r.moved().share() > 0.5 && r.moved().rmse() > 0.02 && r.moved().rmse() < 0.2, r.moved().toString());
        try (GgufIn in = GgufIn.open(dir.resolve("again.gguf"))) {
            Proof p = Proof.of(tiny.frozen(), in, r);
            assertEquals(0, p.weights());
            assertTrue(p.rest() > 0.02 && p.rest() < 0.3, "rest " + p.rest());
        }
    }
}
