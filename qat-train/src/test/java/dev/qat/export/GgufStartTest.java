package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.GgmlType;
import dev.qat.data.Gguf;
import dev.qat.data.GgufWriter;
import dev.qat.data.HfModelDir;
import dev.qat.data.Tokenizer;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A GGUF file as something to go on from: its codes as they are, its tokenizer as Hugging Face spells it. */
class GgufStartTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path dir;
    @AutoClose
    private final CpuBackend backend = new CpuBackend(1);

    private Tiny tiny() {
        return Tiny.of(dir.resolve("source"), backend, "llama", 256, 512, "");
    }

    private static float[] weights(Lattice l) {
        float[] all = new float[l.rows() * l.cols()];
        Frozen.weights(MemorySegment.ofArray(all), l, l.step());
        return all;
    }

    private static float[] read(Frozen in, String tensor, int count) {
        float[] all = new float[count];
        in.read(tensor, MemorySegment.ofArray(all));
        return all;
    }

    @ParameterizedTest
    @ValueSource(strings = {"q4_0", "q4_1", "q8_0", "q2_0", "q2_k", "tq1_0", "tq2_0"})
    void trainedCodesComeBack(String type) {
        Tiny tiny = type.startsWith("t") ? tiny().quantize(Tiny.ternary(256)) : tiny().trainedFor("gguf:" + type);
        FrozenModel model = tiny.frozen();
        Exports.of("gguf:" + type, Exports.Options.DEFAULT).write(dir.resolve("m.gguf"), model);
        try (GgufIn in = GgufIn.open(dir.resolve("m.gguf"))) {
            assertEquals(model.quantized(), in.quantized());
            for (String name : model.quantized()) {
                Lattice a = model.lattice(name), b = in.lattice(name);
                assertEquals(a.minimum(), b.minimum(), name);
                assertEquals(a.group(), b.group(), name);
                assertArrayEquals(a.words(), b.words(), name);
                assertArrayEquals(read(in, name + ".weight", a.rows() * a.cols()), weights(b), name);
            }
        }
    }

    /** A file whose linears llama.cpp rounded itself, everything else F32. */
    private Path theirs(Tiny tiny, GgmlType type) {
        Path file = dir.resolve("theirs.gguf");
        List<GgufWriter.Slot> slots = new ArrayList<>();
        FrozenModel model = tiny.frozen();
        model.shapes().forEach((name, s) -> {
            GgmlType stored = Configs.linear(name).isEmpty() ? GgmlType.F32 : type;
            slots.add(s.length == 1 ? new GgufWriter.Slot(GgufNames.of(name), stored, s[0]) : new GgufWriter.Slot(GgufNames.of(name), stored, s[1], s[0]));
        });
        try (LlamaProcess llama = LlamaProcess.start(); GgufWriter out = GgufWriter.open(file, GgufMetadata.of(model, type, new ArrayList<>()), slots)) {
            int at = 0;
            for (String name : model.shapes().keySet()) {
                GgufWriter.Slot slot = slots.get(at++);
                float[] w = read(model, name, (int) slot.count());
                out.write(slot.name(), slot.type() == GgmlType.F32 ? MemorySegment.ofArray(w)
                        : MemorySegment.ofArray(llama.quantize(type, w, w.length / (int) slot.ne()[0], (int) slot.ne()[0])));
            }
            out.finish();
        }
        return file;
    }

    /** Read as codes and written again, every byte of somebody else's blocks is as it was. */
    @ParameterizedTest
    @CsvSource({"Q4_0, true", "Q4_1, false", "Q8_0, false", "Q2_K, false", "TQ1_0, false", "TQ2_0, false"})
    void llamaCppsBlocksAreCodesToo(GgmlType type, boolean negative) {
        Oracle.require();
        Path file = theirs(tiny(), type);
        try (GgufIn in = GgufIn.open(file); Gguf before = Gguf.open(file)) {
            assertEquals(14, in.quantized().size());
            assertEquals("", in.remark());
            int below = 0;
            for (String name : in.quantized()) {
                Lattice l = in.lattice(name);
                assertArrayEquals(read(in, name + ".weight", l.rows() * l.cols()), weights(l), name);
                for (float s : l.step()) if (s < 0) below++;
            }
            assertEquals(negative, below > 0, "steps below zero: " + below);
            Tiny kept = tiny().quantize((l, _) -> in.lattice(l.name));
            Exports.of("gguf:" + type.label(), Exports.Options.DEFAULT).write(dir.resolve("again.gguf"), kept.frozen());
            try (Gguf after = Gguf.open(dir.resolve("again.gguf"))) {
                for (String name : in.quantized()) {
                    String stored = GgufNames.of(name + ".weight");
                    assertEquals(-1, before.bytes(stored).mismatch(after.bytes(stored)), stored);
                }
            }
        }
    }

    @Test
    void otherBlocksAreDecodedAndItIsSaid() {
        Oracle.require();
        try (GgufIn in = GgufIn.open(theirs(tiny(), GgmlType.Q4_K))) {
            assertEquals(List.of(), in.quantized());
            assertTrue(in.remark().contains("14 linears are stored as Q4_K") && in.remark().contains("decoded"), in.remark());
            Model m = in.load(backend.memory());
            Param w = m.blocks().getLast().down.weight;
            float[] a = backend.memory().floats(w.value()), b = read(tiny().frozen(), w.name(), a.length);
            assertTrue(Oracle.cosine(a, b) > 0.99);
        }
    }

    // ---- its tokenizer ---------------------------------------------------------------------------------------------------

    /** A file with a tokenizer, alone in its folder. */
    private Path alone(Path tokenizer, int vocabulary, String config) throws IOException {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 32, 32, "");
        ObjectNode json = (ObjectNode) JSON.readTree(tiny.dir.resolve("config.json").toFile());
        JSON.writeValue(tiny.dir.resolve("config.json").toFile(), json.put("vocab_size", vocabulary));
        Files.writeString(tiny.dir.resolve("tokenizer_config.json"), config);
        try (InputStream in = tokenizer.toString().endsWith(".gz") ? new GZIPInputStream(Files.newInputStream(tokenizer)) : Files.newInputStream(tokenizer)) {
            Files.write(tiny.dir.resolve("tokenizer.json"), in.readAllBytes());
        }
        Path file = Files.createDirectories(dir.resolve("alone")).resolve("t.gguf");
        try (HfModelDir hf = HfModelDir.describe(tiny.dir)) {
            Model m = new Model(ModelConfig.of(hf.config(), "tiny"), backend.memory());
            Exports.of("gguf:f16", Exports.Options.DEFAULT).write(file, new FrozenModel(m, Map.of(), hf, Map.of()));
        }
        return file;
    }

    private void same(Path file) throws IOException {
        JsonNode strings = JSON.readTree(Oracle.asset("tokenizers/golden_tokenizations.json").toFile()).get("strings");
        try (GgufIn in = GgufIn.open(file); GgufDir own = GgufDir.of(in); Tokenizer theirs = Tokenizer.of(dir.resolve("hf")); Tokenizer ours = Tokenizer.of(own.dir())) {
            assertEquals(theirs.bos(), ours.bos());
            for (JsonNode s : strings) {
                int[] ids = theirs.encodeWithBos(s.asText());
                assertArrayEquals(ids, ours.encodeWithBos(s.asText()), s.toString());
                assertEquals(theirs.decode(ids), ours.decode(ids), s.toString());
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"llama2, 32000", "qwen3, 151936", "gpt2, 50257"})
    void theFilesTokenizerIsTheOriginal(String name, int vocabulary) throws IOException {
        Path tokenizer = dir.resolve("gpt2.json");
        if (name.equals("gpt2")) GgufTokenizerTest.gpt2(tokenizer, true);
        else tokenizer = Oracle.asset("tokenizers/" + name + "/tokenizer.json.gz");
        same(alone(tokenizer, vocabulary, name.equals("llama2") ? "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}" : "{\"bos_token\": null}"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"stories260K", "stories3M", "tinystories656K"})
    void realModelsKeepTheirTokenizers(String name) throws IOException {
        Path source = Oracle.asset(name);
        int vocabulary = JSON.readTree(source.resolve("config.json").toFile()).get("vocab_size").asInt();
        same(alone(source.resolve("tokenizer.json"), vocabulary, Files.readString(source.resolve("tokenizer_config.json"))));
    }

    @Test
    void aSplitterNobodyKnowsAsksForTheOriginal() throws IOException {
        Oracle.asset("tokenizers/gpt2");
        Path tokenizer = dir.resolve("gpt2.json");
        GgufTokenizerTest.gpt2(tokenizer, true);
        Files.writeString(tokenizer, Files.readString(tokenizer).replace("\"use_regex\":true", "\"use_regex\":false"));
        Path file = alone(tokenizer, 50257, "{\"bos_token\": null}");
        try (GgufIn in = GgufIn.open(file)) {
            Failing.with(Fail.DATA, () -> GgufDir.of(in).close(), file, "'default'", "put the model's tokenizer.json beside it");
            Files.copy(dir.resolve("hf/tokenizer.json"), file.resolveSibling("tokenizer.json"));
            GgufDir.of(in).close();
        }
    }
}
