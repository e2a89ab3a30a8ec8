package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.GgmlType;
import dev.qat.data.HfModelDir;
import dev.qat.data.Tokenizer;
import dev.qat.method.GroupAffine;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.tensor.PackedWeight;
import dev.qat.train.ModelLm;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Real models and tokenizers: llama.cpp finds the perplexity we find, and the ids Hugging Face finds. */
class LlamaCppRealModelsTest {
    private static final int B = 8, T = 256;
    private static final double EXACT = 1e-4, EIGHT_BIT = 5e-3; // llama.cpp rounds activations to 8 bits before block products
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path dir;

    private static Path model(String name) {
        if (!name.startsWith("shakespeare")) return Oracle.asset(name);
        Path path = Path.of(System.getProperty("qat.root", "root-not-given")).resolve("examples/models").resolve(name);
        if (!Files.exists(path.resolve("model.safetensors"))) {
            System.err.println("SKIPPED: " + path + " has no model.safetensors yet");
            Assumptions.abort(path + " has no weights");
        }
        return path;
    }

    private static int[] text(String model, Tokenizer tokenizer) throws IOException {
        String all = Files.readString(Oracle.asset("text/" + (model.startsWith("shakespeare") ? "tinyshakespeare.txt" : "tinystories_head.txt")));
        int[] ids = tokenizer.encodeWithBos(all.substring(160027, 160027 + 12000));
        return Arrays.copyOf(ids, B * T + 1);
    }

    /** Symmetric 4 or 8 bits, a step per 32 weights where rows allow it. */
    private static Map<Linear, PackedWeight> rounded(Model m, CpuBackend backend, int bits) {
        Map<Linear, PackedWeight> packed = new LinkedHashMap<>();
        int zero = 1 << bits - 1;
        for (Linear l : m.linears()) {
            float[] w = backend.memory().floats(l.weight.value());
            int cols = (int) l.inputs(), group = cols % 32 == 0 ? 32 : cols, rows = (int) l.outputs();
            int[] codes = new int[w.length];
            float[] step = new float[w.length / group], zeros = new float[step.length];
            Arrays.fill(zeros, zero);
            for (int i = 0; i < w.length; i++) step[i / group] = Math.max(step[i / group], Math.abs(w[i]) / (zero - 1));
            for (int i = 0; i < w.length; i++) codes[i] = Math.clamp(Math.round(w[i] / step[i / group]) + zero, 0, 2 * zero - 1);
            PackedWeight p = Lattice.of(l.name, bits, group, rows, cols, codes, step, zeros).upload(backend.memory());
            packed.put(l, p);
            backend.dequantize(l.weight.value(), p, p.step());
        }
        return packed;
    }

    /** What a target's rule makes of the weights: minima, of two levels for Q2_K. */
    private static Map<Linear, PackedWeight> ruled(Model m, CpuBackend backend, String target) {
        Map<Linear, PackedWeight> packed = new LinkedHashMap<>();
        for (PackedWeight p : GroupAffine.freeze(backend, GroupAffine.install(backend, "steps", m.linears(), 0, 0, Target.of(target).rule()))) {
            packed.put(m.linears().get(packed.size()), p);
        }
        return packed;
    }

    /** The second number is how many kinds of tensors have rows that are no multiple of a block, so that another type takes them. */
    @ParameterizedTest
    @CsvSource({"stories260K, gguf:f32, 0", "stories260K, gguf:f16, 0", "stories260K, gguf:q8_0, 2", "stories260K, gguf:q4_0, 2",
        "stories3M, gguf:f32, 0", "stories3M, gguf:f16, 0", "stories3M, gguf:q8_0, 1", "stories3M, gguf:q4_0, 1", "stories3M, gguf:q4_1, 1",
        "tinystories656K, gguf:f32, 0", "tinystories656K, gguf:f16, 0", "tinystories656K, gguf:q8_0, 1", "tinystories656K, gguf:q4_0, 1", "tinystories656K, gguf:q4_1, 1",
        "shakespeare-3m, gguf:f32, 0", "shakespeare-3m, gguf:f16, 0", "shakespeare-3m, gguf:q8_0, 0", "shakespeare-3m, gguf:q4_0, 0", "shakespeare-3m, gguf:q4_1, 0",
        "shakespeare-3m, gguf:q2_k, 0"})
    void perplexitiesAgree(String name, String target, int falls) throws IOException {
        Oracle.require();
        Path source = model(name);
        try (CpuBackend backend = new CpuBackend(1); HfModelDir hf = HfModelDir.open(source); Tokenizer tokenizer = Tokenizer.of(source)) {
            int[] text = text(name, tokenizer);
            Model m = Model.load(hf, backend.memory());
            Map<Linear, PackedWeight> packed = switch (target) {
                case "gguf:q4_0", "gguf:q8_0" -> rounded(m, backend, target.endsWith("8_0") ? 8 : 4);
                case "gguf:q4_1", "gguf:q2_k" -> ruled(m, backend, target);
                default -> Map.of();
            };
            FrozenModel frozen = new FrozenModel(m, packed, hf, Map.of());
            var ends = new Exports.Options(target.contains(":q") ? GgmlType.Q6_K : GgmlType.F16, false);
            Report report = Exports.of(target, ends).write(dir.resolve("m.gguf"), frozen);
            assertEquals(falls, report.remarks().size(), report.remarks().toString());
            try (GgufIn back = GgufIn.open(dir.resolve("m.gguf"))) {
                Proof.of(frozen, back, report);
                try (LlamaCppLm theirs = LlamaCppLm.open(dir.resolve("m.gguf"), 1); ModelLm ours = new ModelLm(back.load(backend.memory()), backend)) {
                    double a = Oracle.perplexity(ours, text, B, T), b = Oracle.perplexity(theirs, text, B, T);
                    System.out.printf(Locale.ROOT, "%s %s: ours %.5f, llama.cpp %.5f, %+.5f %%%n", name, target, a, b, 100 * (b / a - 1));
                    assertEquals(1, b / a, target.equals("gguf:f32") ? EXACT : EIGHT_BIT, name + " " + target + " " + report.remarks());
                }
            }
        }
    }

    /** A tokenizer on a random model of its size: llama.cpp's ids of forty strings against Hugging Face's. */
    private void sameIds(String name, int vocabulary, int atLeast) throws IOException {
        Oracle.require();
        JsonNode strings = JSON.readTree(Oracle.asset("tokenizers/golden_tokenizations.json").toFile()).get("strings");
        try (CpuBackend backend = new CpuBackend(1)) {
            Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 32, 32, "");
            ObjectNode config = (ObjectNode) JSON.readTree(tiny.dir.resolve("config.json").toFile());
            JSON.writeValue(tiny.dir.resolve("config.json").toFile(), config.put("vocab_size", vocabulary));
            Files.writeString(tiny.dir.resolve("tokenizer_config.json"), name.equals("llama2") ? "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}" : "{\"bos_token\": null}");
            tokenizer(name, tiny.dir.resolve("tokenizer.json"));
            try (HfModelDir hf = HfModelDir.describe(tiny.dir)) {
                Model m = new Model(dev.qat.model.ModelConfig.of(hf.config(), "tiny"), backend.memory());
                Exports.of("gguf:f16", Exports.Options.DEFAULT).write(dir.resolve("t.gguf"), new FrozenModel(m, Map.of(), hf, Map.of()));
            }
            int same = 0;
            StringBuilder different = new StringBuilder();
            try (LlamaCppLm theirs = LlamaCppLm.open(dir.resolve("t.gguf"), 1); Tokenizer ours = Tokenizer.of(tiny.dir)) {
                for (JsonNode s : strings) {
                    if (Arrays.equals(ours.encodeWithBos(s.asText()), theirs.tokenize(s.asText()))) same++;
                    else different.append('\n').append(s);
                }
            }
            System.out.println(name + ": " + same + " of " + strings.size() + " strings have the same ids" + different);
            assertTrue(same >= atLeast, name + " " + same + different);
        }
    }

    private static void tokenizer(String name, Path to) throws IOException {
        if (name.equals("gpt2")) {
            GgufTokenizerTest.gpt2(to, true);
            return;
        }
        try (InputStream in = new GZIPInputStream(Files.newInputStream(Oracle.asset("tokenizers/" + name + "/tokenizer.json.gz")))) {
            Files.write(to, in.readAllBytes());
        }
    }

    @Test
    void piecesAreFoundAsHuggingFaceFindsThem() throws IOException {
        sameIds("llama2", 32000, 40);
    }

    @Test
    void mergesAreAppliedAsHuggingFaceAppliesThem() throws IOException {
        sameIds("gpt2", 50257, 40);
        sameIds("qwen3", 151936, 39); // llama.cpp does not compose accents (NFC), so one string of forty differs
    }
}
