package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.data.CausalLm;
import dev.qat.data.HfModelDir;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.train.ModelLm;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Every architecture as a tiny random model: its gradients, its cache, its files. */
class ModelTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5, 23, 7, 31};
    private static final double STEP = 0x1p-6;

    @TempDir
    Path temp;

    /** The slope along the largest gradient of every parameter, and along a random direction through it, by four-point differences of the loss. */
    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3"})
    void gradientsAreTheSlopesOfTheLoss(String config) {
        try (Backend reference = new ReferenceBackend()) {
            Probe probe = new Probe(reference, Tiny.model(reference, Tiny.named(config), 5));
            Probe.Slopes got = probe.gradients(IDS, true);
            double worst = 0;
            try (Probe.Loss loss = probe.new Loss(IDS)) {
                assertEquals(loss.value(), got.loss(), 1e-6);
                for (Param p : probe.model.params()) {
                    float[] g = got.gradients().get(p.name()), one = new float[g.length], all = new float[g.length];
                    int steepest = 0;
                    for (int i = 0; i < g.length; i++) if (Math.abs(g[i]) > Math.abs(g[steepest])) steepest = i;
                    one[steepest] = 1;
                    for (int i = 0; i < g.length; i++) all[i] = (float) (Philox.normal(9, i, p.name().hashCode(), 0) / Math.sqrt(g.length));
                    assertTrue(Math.abs(g[steepest]) > 1e-3, p.name() + " hardly matters: " + g[steepest]);
                    worst = Math.max(worst, Math.max(off(reference.memory(), loss, p, g, one), off(reference.memory(), loss, p, g, all)));
                }
            }
            System.out.printf("gradients of a tiny %s within %.1e of four-point differences%n", probe.model.config.type(), worst);
        }
    }

    /** |slope − gradient · way| as a share of the gradient's norm times the way's. */
    private static double off(Memory memory, Probe.Loss loss, Param p, float[] g, float[] way) {
        double expected = 0, norm = 0, length = 0;
        for (int i = 0; i < g.length; i++) {
            expected += (double) g[i] * way[i];
            norm += (double) g[i] * g[i];
            length += (double) way[i] * way[i];
        }
        float[] at = memory.floats(p.value());
        double slope = (8 * (moved(memory, loss, p, at, way, STEP) - moved(memory, loss, p, at, way, -STEP))
                - (moved(memory, loss, p, at, way, 2 * STEP) - moved(memory, loss, p, at, way, -2 * STEP))) / (12 * STEP);
        memory.set(p.value(), at);
        double off = Math.abs(slope - expected) / Math.sqrt(norm * length);
        assertTrue(off < 2e-4, "%s: the gradient says %s along the way, differences say %s".formatted(p.name(), expected, slope));
        return off;
    }

    private static double moved(Memory memory, Probe.Loss loss, Param p, float[] at, float[] way, double h) {
        float[] there = at.clone();
        for (int i = 0; i < there.length; i++) there[i] = (float) (at[i] + h * way[i]);
        memory.set(p.value(), there);
        return loss.value();
    }

    @Test
    void everyArchitectureHasTheParametersItsNameSays() {
        try (Backend reference = new ReferenceBackend()) {
            String q = "model.layers.1.self_attn.q_proj.bias", o = "model.layers.1.self_attn.o_proj.bias", down = "model.layers.1.mlp.down_proj.bias",
                    norm = "model.layers.1.self_attn.q_norm.weight", head = "lm_head.weight";
            assertEquals(Set.of(head), extras(reference, Tiny.LLAMA));
            assertEquals(Set.of(head, q, o, down), extras(reference, Tiny.LLAMA_BIASED));
            assertEquals(Set.of(q), extras(reference, Tiny.QWEN2));
            assertEquals(Set.of(head, norm), extras(reference, Tiny.QWEN3));
        }
    }

    private static Set<String> extras(Backend backend, String config) {
        Set<String> asked = Set.of("model.layers.1.self_attn.q_proj.bias", "model.layers.1.self_attn.o_proj.bias", "model.layers.1.mlp.down_proj.bias",
                "model.layers.1.self_attn.q_norm.weight", "lm_head.weight");
        return Tiny.model(backend, config, 1).params().stream().map(Param::name).filter(asked::contains).collect(Collectors.toSet());
    }

    /** Dropping a block's activations and computing them again must change nothing at all. */
    @ParameterizedTest
    @ValueSource(strings = {"biased", "qwen2", "qwen3"})
    void recomputedGradientsAreTheSameBits(String config) {
        try (Backend cpu = new CpuBackend(2)) {
            Probe probe = new Probe(cpu, Tiny.model(cpu, Tiny.named(config), 5));
            Probe.Slopes kept = probe.gradients(IDS, true), again = probe.gradients(IDS, false);
            kept.gradients().forEach((name, g) -> assertArrayEquals(g, again.gradients().get(name), name));
            assertEquals(kept.loss(), again.loss());
        }
    }

    /** The fast backend says of whole models what the reference says. */
    @ParameterizedTest
    @ValueSource(strings = {"biased", "qwen2", "qwen3"})
    void bothBackendsAgree(String config) {
        try (Backend cpu = new CpuBackend(2); Backend reference = new ReferenceBackend()) {
            Probe fast = new Probe(cpu, Tiny.model(cpu, Tiny.named(config), 5)), slow = new Probe(reference, Tiny.model(reference, Tiny.named(config), 5));
            assertArrayEquals(slow.logits(IDS), fast.logits(IDS), 2e-5f);
            Probe.Slopes expected = slow.gradients(IDS, true), got = fast.gradients(IDS, true);
            expected.gradients().forEach((name, g) -> assertArrayEquals(g, got.gradients().get(name), 2e-5f, name));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3"})
    void decodingWithACacheIsTheWholeForwardPass(String config) {
        for (boolean fast : new boolean[] {false, true}) {
            try (Backend backend = fast ? new CpuBackend(2) : new ReferenceBackend()) {
                Probe probe = new Probe(backend, Tiny.model(backend, Tiny.named(config), 5));
                assertArrayEquals(probe.logits(IDS), probe.decodedLogits(IDS), 2e-5f);
            }
        }
    }

    /** Sequences decoded side by side do not see each other, and the likeliest token is the forward pass's. */
    @Test
    void sequencesSideBySideAreDecodedAsAlone() {
        try (Backend cpu = new CpuBackend(2)) {
            Model m = Tiny.model(cpu, Tiny.QWEN3, 5);
            int V = m.config.V();
            int[][] rows = {IDS, new int[IDS.length]};
            for (int i = 0; i < IDS.length; i++) rows[1][i] = (7 * i + 3) % V;
            float[][] logits = {new Probe(cpu, m).logits(rows[0]), new Probe(cpu, m).logits(rows[1])};
            try (CausalLm lm = new ModelLm(m, cpu); CausalLm.Decoder decoder = lm.decoder(2, IDS.length, Sampling.GREEDY)) {
                int[] next = new int[2];
                for (int t = 0; t < IDS.length; t++) {
                    decoder.step(new int[] {rows[0][t], rows[1][t]}, t, new int[] {0, 1}, next);
                    for (int b = 0; b < 2; b++) {
                        int best = 0;
                        for (int v = 0; v < V; v++) if (logits[b][t * V + v] > logits[b][t * V + best]) best = v;
                        assertEquals(best, next[b], "sequence " + b + ", position " + t);
                    }
                }
            }
        }
    }

    @Test
    void aTiedMatrixIsFoundUnderEitherName() {
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, Tiny.QWEN2, 5);
            float[] expected = new Probe(cpu, m).logits(IDS);
            ObjectNode tied = Tiny.json(Tiny.QWEN2), silent = tied.deepCopy();
            silent.remove("tie_word_embeddings");
            UnaryOperator<String> asHead = name -> name.equals("model.embed_tokens.weight") ? "lm_head.weight" : name;
            for (ObjectNode config : new ObjectNode[] {tied, silent}) {
                for (UnaryOperator<String> names : List.of(UnaryOperator.<String>identity(), asHead)) {
                    Path dir = Tiny.write(temp.resolve("model" + names.hashCode() + config.size()), m, config, names);
                    try (HfModelDir source = HfModelDir.open(dir)) {
                        Model read = Model.load(source, cpu.memory());
                        assertTrue(read.config.tied());
                        assertArrayEquals(expected, new Probe(cpu, read).logits(IDS), "the same bits");
                    }
                }
            }
        }
    }

    @Test
    void twoMatricesStayTwo() {
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, Tiny.QWEN3, 5);
            Path dir = Tiny.write(temp.resolve("untied"), m, Tiny.json(Tiny.QWEN3), UnaryOperator.identity());
            try (HfModelDir source = HfModelDir.open(dir)) {
                Model read = Model.load(source, cpu.memory());
                assertArrayEquals(new Probe(cpu, m).logits(IDS), new Probe(cpu, read).logits(IDS));
                assertTrue(read.head != read.embedding);
            }
        }
    }

    /** Weights that the config does not declare would be left out without a word. */
    @Test
    void undeclaredWeightsAreRefused() {
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, Tiny.LLAMA_BIASED, 5);
            ObjectNode forgetful = Tiny.json(Tiny.LLAMA_BIASED);
            forgetful.remove("attention_bias");
            Path dir = Tiny.write(temp.resolve("forgetful"), m, forgetful, UnaryOperator.identity());
            try (HfModelDir source = HfModelDir.open(dir)) {
                Fail fail = assertThrows(Fail.class, () -> Model.load(source, cpu.memory()));
                assertEquals(Fail.DATA, fail.code());
                assertTrue(fail.getMessage().contains("_proj.bias") && fail.getMessage().contains("attention_bias"), fail.getMessage());
            }
        }
    }
}
