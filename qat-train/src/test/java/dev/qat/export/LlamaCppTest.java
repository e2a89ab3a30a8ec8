package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.CausalLm;
import dev.qat.data.GgmlType;
import dev.qat.data.Gguf;
import dev.qat.data.GgufValue;
import dev.qat.data.GgufWriter;
import dev.qat.data.Tokenizer;
import dev.qat.ops.Sampling;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import dev.qat.train.ModelLm;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What we write, run by llama.cpp: the same logits as ours, for random models of every kind we export. */
class LlamaCppTest {
    private static final double EXACT = 0.99999, EIGHT_BIT = 0.998; // llama.cpp rounds activations to 8 bits before block products
    private static final String BIASES = "\"attention_bias\": true, \"mlp_bias\": true,";

    @TempDir
    Path dir;
    private CpuBackend backend;

    @BeforeEach
    void open() {
        Oracle.require();
        backend = new CpuBackend(1);
    }

    @AfterEach
    void close() {
        if (backend != null) backend.close();
    }

    private Path write(Tiny tiny, String target) {
        Path file = dir.resolve("model.gguf");
        Exports.of(target, Exports.Options.DEFAULT).write(file, tiny.frozen());
        return file;
    }

    private double cosine(Tiny tiny, Path file) {
        int[] ids = Oracle.randomIds(40, 272);
        try (LlamaCppLm lm = LlamaCppLm.open(file, 1)) {
            return Oracle.cosine(lm.logits(ids), Oracle.logits(tiny.model, backend, ids));
        }
    }

    private void same(String type, String target, String more, double atLeast) {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, type, 256, 256, more);
        double got = cosine(tiny, write(tiny, target));
        assertTrue(got >= atLeast, type + " " + target + " cosine " + got);
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "mistral", "qwen2"})
    void plainModelsAreTheSameModel(String type) {
        same(type, "gguf:f32", "", EXACT);
        same(type, "gguf:f16", "", EXACT);
        same(type, "gguf:f32", "\"tie_word_embeddings\": true,", EXACT);
    }

    @Test
    void biasesOfEveryLinearAreRead() {
        same("llama", "gguf:f32", BIASES, EXACT);
    }

    @Test
    void scaledRotationsAreRead() {
        same("llama", "gguf:f32", "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4.0},", EXACT);
        same("llama", "gguf:f32", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                + "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64},", EXACT);
    }

    @Test
    void aHeadSizeOfItsOwnIsRead() {
        same("llama", "gguf:f32", "\"head_dim\": 48,", EXACT);
    }

    @Test
    void codesArePassedOnExactly() {
        coded("gguf:q8_0", Tiny.symmetric(8, 32), "");
        coded("gguf:q4_0", Tiny.symmetric(4, 32), "");
        coded("gguf:q4_0", Tiny.asymmetric(2, 64), "");
        coded("gguf:q4_1", Tiny.asymmetric(4, 64), "");
        coded("gguf:q8_0", Tiny.asymmetric(4, 64), "");
        for (String target : new String[] {"gguf:q4_1", "gguf:q2_k", "gguf:q4_0"}) {
            Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 256, 512, "").trainedFor(target);
            double got = cosine(tiny, write(tiny, target));
            assertTrue(got >= EIGHT_BIT, "trained for " + target + " cosine " + got);
        }
        coded("gguf:tq2_0", Tiny.ternary(256), "");
        coded("gguf:tq1_0", Tiny.ternary(256), "");
    }

    private void coded(String target, java.util.function.BiFunction<dev.qat.model.Linear, Random, Lattice> codes, String more) {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 256, 512, more).quantize(codes);
        double got = cosine(tiny, write(tiny, target));
        assertTrue(got >= EIGHT_BIT, target + " cosine " + got);
    }

    @Test
    void biasesThatAMethodAddsGoWithTernaryCodes() {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 256, 512, "").quantize((l, random) -> {
            Lattice t = Tiny.ternary(256).apply(l, random);
            float[] bias = new float[t.rows()];
            for (int i = 0; i < bias.length; i++) bias[i] = (float) random.nextGaussian();
            return new Lattice(t.name(), t.bits(), t.group(), t.rows(), t.cols(), t.words(), t.step(), t.zero(), bias);
        });
        int[] ids = Oracle.randomIds(40, 272);
        float[] with = Oracle.logits(tiny.frozen().load(backend.memory()), backend, ids), without = Oracle.logits(tiny.model, backend, ids);
        for (String target : new String[] {"gguf:tq2_0", "gguf:tq1_0"}) {
            try (LlamaCppLm lm = LlamaCppLm.open(write(tiny, target), 1)) {
                float[] theirs = lm.logits(ids);
                assertTrue(Oracle.cosine(theirs, with) >= EIGHT_BIT, target + " with biases " + Oracle.cosine(theirs, with));
                assertTrue(Oracle.cosine(theirs, without) < 0.9, target + " biases ignored " + Oracle.cosine(theirs, without));
            }
        }
    }

    /** The file again, one tensor changed on the way; proves that the comparison can fail. */
    private Path changed(Path file, java.util.function.Function<String, java.util.function.UnaryOperator<float[]>> change) {
        Path other = dir.resolve("changed.gguf");
        try (Gguf in = Gguf.open(file)) {
            Map<String, GgufValue> metadata = new LinkedHashMap<>();
            for (String key : in.keys()) metadata.put(key, value(in, key));
            List<GgufWriter.Slot> slots = new ArrayList<>();
            for (String name : in.names()) slots.add(new GgufWriter.Slot(name, in.entry(name).type(), in.entry(name).ne()));
            try (GgufWriter out = GgufWriter.open(other, metadata, slots)) {
                for (String name : in.names()) {
                    float[] values = new float[(int) in.entry(name).count()];
                    in.read(name, java.lang.foreign.MemorySegment.ofArray(values));
                    out.write(name, java.lang.foreign.MemorySegment.ofArray(change.apply(name).apply(values)));
                }
                out.finish();
            }
        }
        return other;
    }

    private static GgufValue value(Gguf in, String key) {
        if (key.endsWith(".tokens") || key.endsWith(".merges")) return GgufValue.of(in.texts(key));
        if (key.endsWith("token_type")) return GgufValue.of(in.wholes(key));
        if (key.endsWith("epsilon") || key.endsWith("freq_base")) return GgufValue.of((float) in.number(key));
        if (key.contains("add_")) return GgufValue.of(in.flag(key));
        boolean text = key.equals("general.architecture") || key.equals("general.type") || key.equals("general.name") || key.startsWith("qat.")
                || key.equals("tokenizer.ggml.model") || key.equals("tokenizer.ggml.pre");
        return text ? GgufValue.of(in.text(key)) : GgufValue.of((int) in.whole(key));
    }

    @Test
    void theWrongOrderOfQueryAndKeyRowsIsSeen() {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 256, 256, "");
        Path right = write(tiny, "gguf:f32");
        Path same = changed(right, _ -> v -> v);
        assertTrue(cosine(tiny, same) >= EXACT);
        Path wrong = changed(right, name -> v -> {
            int heads = name.contains("attn_q.") ? 8 : name.contains("attn_k.") ? 4 : 0;
            float[] back = new float[v.length];
            int rows = v.length / 256;
            for (int j = 0; j < rows; j++) System.arraycopy(v, 256 * j, back, 256 * GgufNames.source(j, rows, heads), 256);
            return heads == 0 ? v : back;
        });
        assertTrue(cosine(tiny, wrong) < 0.99, "unpermuted " + cosine(tiny, wrong));
    }

    @Test
    void theByteLevelTokenizerGivesTheSameIds() {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 64, 64, "");
        String text = "Was weiß ein Löwe? 狮子\n\n  \tend 12345 ...";
        try (LlamaCppLm lm = LlamaCppLm.open(write(tiny, "gguf:f32"), 1); Tokenizer tokenizer = Tokenizer.of(tiny.dir)) {
            assertArrayEquals(tokenizer.encodeWithBos(text), lm.tokenize(text));
            assertEquals(272, lm.vocabulary());
            assertEquals(128, lm.context());
        }
    }

    @Test
    void decodingDrawsTheSameTokens() {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 64, 128, "");
        try (LlamaCppLm theirs = LlamaCppLm.open(write(tiny, "gguf:f32"), 1); CausalLm ours = new ModelLm(tiny.model, backend)) {
            for (Sampling how : new Sampling[] {Sampling.GREEDY, new Sampling(0.8f, 20, 1, 7)}) {
                assertArrayEquals(speak(ours, how), speak(theirs, how));
            }
        }
    }

    private static int[] speak(CausalLm lm, Sampling how) {
        int[] now = {256, 65}, next = new int[2], sequence = {0, 1}, said = new int[40];
        try (CausalLm.Decoder d = lm.decoder(2, 21, how)) {
            for (int t = 0; t < 20; t++) {
                d.step(now, t, sequence, next);
                said[2 * t] = next[0];
                said[2 * t + 1] = next[1];
                now = next.clone();
            }
        }
        return said;
    }

    @Test
    void ourBlocksDecodeAsTheirs() {
        float[] w = new float[4 * 512];
        Random random = new Random(9);
        for (int i = 0; i < w.length; i++) w[i] = (float) random.nextGaussian();
        Map<GgmlType, Double> worst = Map.of(GgmlType.Q4_0, 0.11, GgmlType.Q4_1, 0.09, GgmlType.Q8_0, 0.007, GgmlType.Q2_K, 0.4, GgmlType.Q4_K, 0.08,
                GgmlType.Q6_K, 0.025, GgmlType.F16, 0.0004, GgmlType.BF16, 0.003, GgmlType.TQ2_0, 0.9, GgmlType.TQ1_0, 0.9);
        try (LlamaProcess llama = LlamaProcess.start()) {
            worst.forEach((type, most) -> {
                byte[] raw = llama.quantize(type, w, 4, 512);
                float[] back = new float[w.length];
                for (int i = 0, b = 0; i < w.length; i += type.elements, b += type.bytes) type.decode(back, i, raw, b);
                double change = 0, size = 0;
                for (int i = 0; i < w.length; i++) {
                    change += Math.pow(w[i] - back[i], 2);
                    size += Math.pow(w[i], 2);
                }
                double rmse = Math.sqrt(change / size);
                assertTrue(rmse < most, type + " relative RMSE " + rmse);
                if (type == GgmlType.TQ1_0 || type == GgmlType.TQ2_0) sameTernary(type, raw, back);
            });
        }
    }

    /** Both ternary types hold the same numbers, so theirs must decode alike, and encode back to their bytes. */
    private static void sameTernary(GgmlType type, byte[] raw, float[] back) {
        int[] q = new int[256];
        byte[] again = new byte[type.bytes];
        for (int b = 0; b < raw.length / type.bytes; b++) {
            int step = b * type.bytes + type.bytes - 2;
            short d = (short) (raw[step] & 0xff | raw[step + 1] << 8);
            for (int i = 0; i < 256; i++) q[i] = (int) Math.signum(back[256 * b + i]);
            type.encode(again, 0, q, 0, d, (short) 0);
            assertArrayEquals(java.util.Arrays.copyOfRange(raw, b * type.bytes, (b + 1) * type.bytes), again);
        }
    }

    /** Why codes are passed on: the usual way rounds trained weights once more, on a grid from each block's largest weight. */
    @Test
    void roundingTrainedWeightsAgainMovesMostOfThem() {
        Tiny tiny = Tiny.of(dir.resolve("hf"), backend, "llama", 256, 256, "").quantize((l, random) -> {
            Lattice all = Tiny.symmetric(4, 32).apply(l, random);
            int[] codes = new int[all.rows() * all.cols()];
            for (int i = 0; i < codes.length; i++) codes[i] = (int) Math.clamp(Math.rint(8 + 2.5 * random.nextGaussian()), 2, 14); // as trained: no code at the end
            return Lattice.of(l.name, 4, 32, all.rows(), all.cols(), codes, all.step(), all.zero());
        });
        long moved = 0, all = 0;
        try (LlamaProcess llama = LlamaProcess.start()) {
            for (String name : tiny.frozen().quantized()) {
                Lattice l = tiny.frozen().lattice(name);
                float[] w = new float[l.rows() * l.cols()], row = new float[l.cols()], back = new float[w.length];
                for (int r = 0; r < l.rows(); r++) {
                    l.weights(row, r, HalfSteps.of(l, Half.FP16).values());
                    System.arraycopy(row, 0, w, r * l.cols(), row.length);
                }
                byte[] raw = llama.quantize(GgmlType.Q4_0, w, l.rows(), l.cols());
                for (int i = 0, b = 0; i < w.length; i += 32, b += 18) GgmlType.Q4_0.decode(back, i, raw, b);
                for (int i = 0; i < w.length; i++) if (w[i] != back[i]) moved++;
                all += w.length;
            }
        }
        assertTrue(moved > all / 2, moved + " of " + all);
    }

    @Test
    void aFileThatLlamaCppRefusesIsASentence() throws Exception {
        Path file = dir.resolve("broken.gguf");
        Files.writeString(file, "GGUF but not really");
        Failing.with(Fail.DATA, () -> LlamaCppLm.open(file, 1).close(), file, "llama.cpp does not load it");
    }
}
