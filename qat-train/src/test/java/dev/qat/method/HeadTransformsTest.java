package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.Probe;
import dev.qat.model.Tiny;
import dev.qat.ops.Channels;
import dev.qat.ops.Mix;
import dev.qat.ops.Ops;
import dev.qat.ops.Philox;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.Run;
import java.nio.file.Path;
import java.util.List;
import java.util.function.ToDoubleFunction;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** T_k and T_v while they train: nothing changes through the sites or merged, their gradient is right, and wrong heads and pairs are seen. */
final class HeadTransformsTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};

    @TempDir
    Path temp;

    private static String named(String config) {
        String text = switch (config) {
            case "one key head a query head" -> Tiny.with(Tiny.QWEN2, "{\"num_key_value_heads\": 4}");
            case "one key head, biases" -> Tiny.with(Tiny.LLAMA_BIASED, "{\"num_key_value_heads\": 1}");
            case "six heads by three" -> Tiny.with(Tiny.LLAMA_BIASED, "{\"num_attention_heads\": 6, \"num_key_value_heads\": 2}");
            case "norms, three groups" -> Tiny.with(Tiny.QWEN3, "{\"num_attention_heads\": 6, \"num_key_value_heads\": 3, \"attention_bias\": true}");
            default -> Tiny.named(config);
        };
        return Tiny.with(text, "{\"rope_scaling\": null}");   // the oracle knows plain angles
    }

    /** Adds noise to every parameter. */
    static void randomize(Run run, HeadTransforms heads, double size) {
        Memory memory = run.backend().memory();
        int key = 0;
        for (Param p : heads.params()) {
            float[] v = memory.floats(p.value());
            for (int i = 0; i < v.length; i++) v[i] += (float) (size * Philox.normal(4, i, key, 0));
            memory.set(p.value(), v);
            key++;
        }
        heads.invert();
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3", "one key head a query head", "one key head, biases", "six heads by three", "norms, three groups"})
    void theyLeaveTheModelAsItIsThroughSitesAndMerged(String config) {
        Loud.look(temp, named(config), run -> {
            Model m = run.student();
            Probe probe = new Probe(run.backend(), m);
            float[] before = probe.logits(IDS);
            try (HeadTransforms heads = new HeadTransforms(run, true, true)) {
                heads.install();
                assertEquals(0, Probe.off(before, probe.logits(IDS)), 1e-5, "the identity");
                randomize(run, heads, 0.3);
                assertEquals(0, Probe.off(before, probe.logits(IDS)), 1e-4, "through the sites");
                float[] weights = run.backend().memory().floats(m.blocks().getLast().q.weight.value());
                Merge to = new Merge(run.backend().memory());
                DoubleLm lm = new DoubleLm(m, to);
                double[] exact = lm.logits(IDS);
                heads.merge(to);
                double[] merged = lm.logits(IDS);
                for (int i = 0; i < exact.length; i++) assertEquals(exact[i], merged[i], 1e-10, "merged, in double");
                run.reset();
                to.store();
                assertEquals(0, Probe.off(before, probe.logits(IDS)), 1e-4, "merged");
                boolean inGains = m.config.qkNorm();
                assertEquals(inGains, Probe.off(weights, run.backend().memory().floats(m.blocks().getLast().q.weight.value())) == 0, "T_k stays out of weights that a norm follows");
            }
        });
    }

    /** Scales that differ from channel to channel stand where quantizers will: only so do the transforms matter. */
    private static void disturb(Run run) {
        Memory memory = run.backend().memory();
        for (Block b : run.student().blocks()) {
            for (Linear l : List.of(b.q, b.k, b.v)) {
                Tensor tau = memory.tensor("disturbance", l.outputs());
                float[] v = new float[(int) l.outputs()];
                for (int i = 0; i < v.length; i++) v[i] = (float) (0.3 * Philox.normal(3, i, 40, b.index));
                memory.set(tau, v);
                l.weightSite.add((t, w) -> Ops.reshape(t, Ops.channelScale(t, Ops.reshape(t, w, 1, w.size()), tau, new Channels(1, Math.toIntExact(l.inputs()), 1)), w.dims()));
            }
        }
    }

    /** Matrices, angles and inverses against differences; and with nothing to disturb them, no pull at all. */
    @ParameterizedTest
    @ValueSource(strings = {"biased", "qwen2", "six heads by three"})
    void theirGradient(String config) {
        Loud.look(temp, named(config), run -> {
            try (HeadTransforms heads = new HeadTransforms(run, true, true)) {
                heads.install();
                randomize(run, heads, 0.2);
                ToDoubleFunction<float[]> size = g -> {
                    double most = 0;
                    for (float v : g) most = Math.max(most, Math.abs(v));
                    return most;
                };
                var still = Slopes.check(run, heads.params(), 2e-3f, heads::invert);
                disturb(run);
                Slopes.check(run, heads.params(), 2e-3f, heads::invert).forEach((p, g) -> {
                    double pull = size.applyAsDouble(g);
                    assertTrue(pull > 0.05, p.name() + " is pulled by " + pull);
                    assertTrue(size.applyAsDouble(still.get(p)) < 2e-3 * pull, p.name() + " is pulled by " + size.applyAsDouble(still.get(p)) + " where nothing is disturbed");
                });
            }
        });
    }

    /** Scales in the gains of norms: what disturbs them comes after rope. */
    @Test
    void theGradientOfGains() {
        Loud.look(temp, named("qwen3"), run -> {
            Memory memory = run.backend().memory();
            try (HeadTransforms heads = new HeadTransforms(run, true, false)) {
                heads.install();
                randomize(run, heads, 0.2);
                for (Block b : run.student().blocks()) {
                    Tensor tau = memory.tensor("disturbance", b.k.outputs());
                    float[] v = new float[(int) b.k.outputs()];
                    for (int i = 0; i < v.length; i++) v[i] = (float) (0.3 * Philox.normal(3, i, 41, b.index));
                    memory.set(tau, v);
                    b.turnedKeySite.add((t, x) -> Ops.add(t, x, Ops.channelScale(t, Ops.swiglu(t, x, x), tau, Channels.each(x.cols(), 1))));
                }
                Slopes.check(run, heads.params(), 2e-3f, () -> {});
            }
        });
    }

    private static Tensor matrices(Run run, double[]... heads) {
        int D = run.student().config.D();
        Tensor m = run.backend().memory().tensor("matrices", (long) heads.length * D, D);
        float[] f = new float[heads.length * D * D];
        for (int h = 0; h < heads.length; h++) for (int i = 0; i < D * D; i++) f[h * D * D + i] = (float) heads[h][i];
        run.backend().memory().set(m, f);
        return m;
    }

    private static double[] random(int D, int key) {
        double[] m = new double[D * D];
        for (int i = 0; i < m.length; i++) m[i] = (i % (D + 1) == 0 ? 1.5 : 0) + 0.4 * Philox.normal(8, i, key, 0);
        return m;
    }

    /** Each of these is a mistake that someone has shipped. */
    @ParameterizedTest
    @ValueSource(strings = {"heads in turn instead of group by group", "pairs of neighbours under half-split rope", "the inverse on queries instead of its transpose"})
    void whatMustFailFails(String mistake) {
        Loud.look(temp, named("llama"), run -> {
            Probe probe = new Probe(run.backend(), run.student());
            float[] before = probe.logits(IDS);
            switch (mistake.split(" ")[0]) {
                case "heads" -> cyclic(run);
                case "pairs" -> keys(run, true, true);
                default -> keys(run, false, false);
            }
            double off = Probe.off(before, probe.logits(IDS));
            assertTrue(off > 1e-2, "unseen: " + off);
        });
    }

    private static void cyclic(Run run) {
        Block b = run.student().blocks().getFirst();
        int D = run.student().config.D();
        double[] first = random(D, 1), second = random(D, 2), i = Folds.inverse(first, D), j = Folds.inverse(second, D);
        Tensor made = matrices(run, first, second), read = matrices(run, i, j, i, j);
        b.v.weightSite.add((t, w) -> Ops.mixHeads(t, w, made, new Mix(1, (int) b.v.inputs(), false)));
        b.o.weightSite.add((t, w) -> Ops.mixHeads(t, w, read, new Mix(1, 1, true)));
    }

    private static void keys(Run run, boolean neighbours, boolean transposed) {
        Block b = run.student().blocks().getFirst();
        int D = run.student().config.D(), half = D / 2, group = run.student().config.H() / run.student().config.K();
        double[] a = new double[D * D];
        for (int j = 0; j < half; j++) {
            int u = neighbours ? 2 * j : j, v = neighbours ? u + 1 : j + half;
            a[u * D + u] = a[v * D + v] = 1.2 + 0.3 * j;
            a[v * D + u] = 0.7;
            a[u * D + v] = -0.7;
        }
        double[] inverse = Folds.inverse(a, D);
        Tensor made = matrices(run, a, a), read = matrices(run, inverse, inverse);
        b.k.weightSite.add((t, w) -> Ops.mixHeads(t, w, made, new Mix(1, (int) b.k.inputs(), false)));
        b.q.weightSite.add((t, w) -> Ops.mixHeads(t, w, read, new Mix(group, (int) b.q.inputs(), transposed)));
    }

    @Test
    void aMatrixWithoutAnInverseIsRefused() {
        Loud.look(temp, named("llama"), run -> {
            try (HeadTransforms heads = new HeadTransforms(run, false, true)) {
                Param p = heads.params().getFirst();
                run.backend().memory().set(p.value(), new float[Math.toIntExact(p.value().size())]);
                Fail f = assertThrows(Fail.class, heads::invert);
                assertEquals(Fail.NUMERIC, f.code());
            }
        });
    }
}
