package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.HfModelDir;
import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Probe;
import dev.qat.model.Shared;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.ops.Philox;
import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Folds leave a model as it is: to 1e-10 in double, to 1e-4 once rounded to fp32; and what must be seen as wrong is seen. */
final class FoldsTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};
    private static final String MHA = Tiny.with(Tiny.LLAMA, "{\"num_key_value_heads\": 4}"), MQA = Tiny.with(Tiny.LLAMA_BIASED, "{\"num_key_value_heads\": 1}");

    private static String named(String config) {
        String text = switch (config) {
            case "one key head a query head" -> MHA;
            case "one key head, biases" -> MQA;
            default -> Tiny.named(config);
        };
        return Tiny.with(text, "{\"rope_scaling\": null}");   // the oracle knows plain angles
    }

    private static double[] normal(int n, int key, double scale) {
        double[] v = new double[n];
        for (int i = 0; i < n; i++) v[i] = scale * Philox.normal(8, i, key, 0);
        return v;
    }

    private static double[] positive(int n, int key) {
        return Arrays.stream(normal(n, key, 0.5)).map(Math::exp).toArray();
    }

    private static double[][] matrices(int count, int D, int key) {
        double[][] m = new double[count][];
        for (int h = 0; h < count; h++) {
            m[h] = normal(D * D, key + h, 0.4);
            for (int i = 0; i < D; i++) m[h][i * D + i] += 1.5;
        }
        return m;
    }

    private static double off(double[] a, double[] b) {
        double most = 0;
        for (int i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
        return most;
    }

    /** One fold by name, on every block. */
    private static void fold(String name, Merge to, Model m, DoubleLm lm) {
        int D = m.config.D(), K = m.config.K();
        switch (name) {
            case "gains" -> Folds.gains(to, m);
            case "residual" -> {
                Folds.gains(to, m);
                Folds.residual(to, m, Hadamard.random(m.config.C(), 3, 0));
            }
            case "keys" -> {
                for (Block b : m.blocks()) {
                    if (m.config.qkNorm()) Folds.keyGains(to, b, positive(D / 2, b.index));
                    else Folds.keys(to, b, m.config, normal(K * D / 2, b.index, 1), positive(K * D / 2, 9 + b.index));
                }
            }
            case "values" -> m.blocks().forEach(b -> Folds.values(to, b, m.config, matrices(K, D, 100 * b.index)));
            case "up" -> m.blocks().forEach(b -> ScalePair.of(b, m.config, true).getLast().merge(to, positive(m.config.F(), b.index)));
            case "down" -> {
                lm.rotation = Hadamard.block(m.config.F());
                m.blocks().forEach(b -> Folds.down(to, b, lm.rotation));
            }
            case "dynamic" -> {
                lm.residual = DoubleLm.Residual.SCALED;
                m.turn(new ModelConfig.Online(0, 0, 0, true));
            }
            default -> throw new AssertionError(name);
        }
    }

    @ParameterizedTest(name = "{0}")
    @ValueSource(strings = {"llama", "one key head a query head", "one key head, biases", "biased", "qwen2", "qwen3"})
    void everyFoldAloneAndAllTogether(String config) {
        try (Backend be = new CpuBackend(1)) {
            for (String fold : new String[] {"gains", "residual", "keys", "values", "up", "down", "dynamic", "all"}) {
                Model m = Tiny.model(be, named(config), 5);
                m.untie();
                Merge weights = new Merge(be.memory());
                DoubleLm lm = new DoubleLm(m, weights);
                float[] single = new Probe(be, m).logits(IDS);
                int[] said = new Probe(be, m).greedy(new int[] {1, 7}, 8);
                double[] before = lm.logits(IDS);
                double spread = 0;
                for (double v : before) spread = Math.max(spread, Math.abs(v));
                assertEquals(0, off(before, doubles(single)), 1e-4, "the oracle is the engine's model");
                if (fold.equals("all")) for (String one : new String[] {"residual", "values", "keys", "up", "down", "dynamic"}) fold(one, weights, m, lm);
                else fold(fold, weights, m, lm);
                assertEquals(0, off(before, lm.logits(IDS)), 1e-10, fold + " in double, logits up to " + spread);
                int rotation = lm.rotation;
                weights.store();
                if (rotation > 0) m.blocks().forEach(b -> b.down.inputSite.add((t, x) -> Ops.hadamard(t, x, rotation)));
                assertEquals(0, off(before, doubles(new Probe(be, m).logits(IDS))), 1e-4, fold + " rounded to fp32");
                assertArrayEquals(said, new Probe(be, m).greedy(new int[] {1, 7}, 8), fold + " token by token");
            }
        }
    }

    /** The same on models that somebody trained, of whom one ties head and embedding and all share keys and values between query heads. */
    @ParameterizedTest(name = "{0}")
    @ValueSource(strings = {"stories260K", "tinystories656K", "stories3M"})
    void everyFoldOnARealModel(String name) {
        try (HfModelDir dir = HfModelDir.open(Shared.asset(name)); Backend be = new CpuBackend(1)) {
            for (String fold : new String[] {"gains", "residual", "keys", "values", "up", "down", "dynamic", "all"}) {
                Model m = Model.load(dir, be.memory());
                m.untie();
                Merge weights = new Merge(be.memory());
                DoubleLm lm = new DoubleLm(m, weights);
                double[] before = lm.logits(IDS);
                assertEquals(0, off(before, doubles(new Probe(be, m).logits(IDS))), 1e-4, "the oracle is the engine's model");
                if (fold.equals("all")) for (String one : new String[] {"residual", "values", "keys", "up", "down", "dynamic"}) fold(one, weights, m, lm);
                else fold(fold, weights, m, lm);
                assertEquals(0, off(before, lm.logits(IDS)), 1e-10, fold + " in double");
                int rotation = lm.rotation;
                weights.store();
                if (rotation > 0) m.blocks().forEach(b -> b.down.inputSite.add((t, x) -> Ops.hadamard(t, x, rotation)));
                float[] after = new Probe(be, m).logits(IDS);
                System.out.printf("%s, %s: logits off by %.1e once rounded to fp32%n", name, fold, off(before, doubles(after)));
                assertEquals(0, off(before, doubles(after)), 1e-4, fold + " rounded to fp32");
            }
        }
    }

    /** Merged, nothing is left in the graph but the rotation that cannot be. */
    @Test
    void onlyTheRotationOfDownIsLeftToDo() {
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, Tiny.LLAMA, 5);
            m.untie();
            Map<String, Long> before = Probe.calls(be, m, IDS.length);
            Merge weights = new Merge(be.memory());
            DoubleLm lm = new DoubleLm(m, weights);
            for (String one : new String[] {"residual", "values", "keys", "up", "down"}) fold(one, weights, m, lm);
            weights.store();
            assertEquals(before, Probe.calls(be, m, IDS.length));
            m.blocks().forEach(b -> b.down.inputSite.add((t, x) -> Ops.hadamard(t, x, lm.rotation)));
            Map<String, Long> after = Probe.calls(be, m, IDS.length);
            assertEquals(m.blocks().size(), after.remove("hadamard"));
            assertEquals(before, after);
        }
    }

    private static double[] doubles(float[] v) {
        double[] d = new double[v.length];
        for (int i = 0; i < d.length; i++) d[i] = v[i];
        return d;
    }

    private interface Change {
        void make(Merge to, Model m, DoubleLm lm);
    }

    private static double damage(String config, Change change) {
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, named(config), 5);
            m.untie();
            Merge weights = new Merge(be.memory());
            DoubleLm lm = new DoubleLm(m, weights);
            lm.interleaved = config.equals("qwen2");
            double[] before = lm.logits(IDS);
            change.make(weights, m, lm);
            return off(before, lm.logits(IDS));
        }
    }

    /** Each of these is a mistake that someone has shipped. */
    @Test
    void whatMustFailFails() {
        assertTrue(damage("qwen2", (to, m, lm) -> fold("keys", to, m, lm)) > 1e-2, "half-split pairs under interleaved rope");
        assertTrue(damage("llama", (to, m, lm) -> Folds.residual(to, m, Hadamard.random(m.config.C(), 3, 0))) > 1e-2, "gains not folded first");
        assertTrue(damage("llama", (to, m, lm) -> {
            Block b = m.blocks().getFirst();
            int D = m.config.D();
            double[] phi = normal(m.config.K() * D / 2, 1, 1), s = positive(m.config.K() * D / 2, 2);
            Folds.turn(to.of(b.k.weight), m.config.K(), D, 1, phi, s);
            Folds.turn(to.of(b.q.weight), m.config.H(), D, m.config.H() / m.config.K(), phi, s);
        }) > 1e-2, "the transform on queries instead of its inverse transpose");
        assertTrue(damage("llama", (to, m, lm) -> {
            double[] w = to.of(m.blocks().getFirst().k.weight), q = to.of(m.blocks().getFirst().q.weight);
            int C = m.config.C();
            for (int i = 0; i < C; i++) {
                w[i] *= 2;
                q[i] /= 2;
                q[m.config.D() * C + i] /= 2;
            }
        }) > 1e-2, "a scale on one channel of a pair alone");
        assertTrue(damage("llama", (to, m, lm) -> {
            double[][] right = matrices(2, m.config.D(), 0);
            Block b = m.blocks().getFirst();
            double[] o = to.of(b.o.weight).clone();
            Folds.values(to, b, m.config, right);
            System.arraycopy(o, 0, to.of(b.o.weight), 0, o.length);
            cyclic(to, b, m, right);
        }) > 1e-2, "heads in turn instead of group by group");
        assertTrue(damage("llama", (_, _, lm) -> lm.residual = DoubleLm.Residual.SCALED_BUT_EPS) > 1e-6, "a residual scaled, and the norm's ε as it was");
        assertTrue(damage("biased", (_, _, lm) -> {
            lm.residual = DoubleLm.Residual.SCALED;
            lm.atInputs = true;
        }) > 1e-2, "what o reads scaled, and its bias not");
    }

    /** Where o and down have no bias, it is the same to scale what they read. */
    @ParameterizedTest
    @ValueSource(strings = {"llama", "qwen2", "qwen3"})
    void scaledAtTheInputsOfLinears(String config) {
        assertEquals(0, damage(config, (_, _, lm) -> {
            lm.residual = DoubleLm.Residual.SCALED;
            lm.atInputs = true;
        }), 1e-10);
    }

    /** Two blocks on (3, 4) in double: the residual scaled from norm to norm is what the size of each norm's input says. */
    @ParameterizedTest
    @CsvSource({"0, 0.282842712, 0.200957482", "0.5, 0.277350098, 0.200061614"})
    void aScaledResidual(double eps, double first, double second) {
        double[] x = {3, 4}, kept = {3, 4};
        double s = 1;
        for (double expected : new double[] {first, second}) {
            double r = 1 / Math.sqrt((x[0] * x[0] + x[1] * x[1]) / 2 + eps * s * s), size = Math.sqrt((kept[0] * kept[0] + kept[1] * kept[1]) / 2 + eps);
            s *= r;
            assertEquals(expected, s, 1e-8);
            assertEquals(1 / size, s, 1e-12);
            double[] n = {x[0] * r, x[1] * r}, u = {n[1], 2 * n[0]};
            for (int i = 0; i < 2; i++) {
                x[i] = n[i] + s * u[i];
                kept[i] += size * (u[i] / size);
                assertEquals(kept[i], x[i] / s, 1e-12);
            }
        }
    }

    /** o ← W M⁻ᵀ with the matrices dealt to query heads in turn. */
    private static void cyclic(Merge to, Block b, Model m, double[][] right) {
        int D = m.config.D();
        double[] o = to.of(b.o.weight);
        for (int h = 0; h < m.config.H(); h++) {
            double[] inverse = Folds.transpose(Folds.inverse(right[h % right.length], D), D);
            for (int r = 0; r < m.config.C(); r++) {
                int at = (r * m.config.H() + h) * D;
                double[] row = Arrays.copyOfRange(o, at, at + D);
                Folds.right(row, inverse, D);
                System.arraycopy(row, 0, o, at, D);
            }
        }
    }

    @Test
    void whatCannotBeFoldedIsRefused() {
        try (Backend be = new CpuBackend(1)) {
            Model tied = Tiny.model(be, Tiny.QWEN2, 5), normed = Tiny.model(be, Tiny.QWEN3, 5);
            assertThrows(Fail.class, () -> Folds.gains(new Merge(be.memory()), tied));
            assertThrows(Fail.class, () -> Folds.keys(new Merge(be.memory()), normed.blocks().getFirst(), normed.config, new double[8], new double[8]));
            Fail f = assertThrows(Fail.class, () -> Folds.inverse(new double[4], 2));
            assertEquals(Fail.NUMERIC, f.code());
        }
    }

    // ---- worked numbers ----------------------------------------------------------------------------------------------

    @Test
    void aTurnedKeyAndQuery() {
        double[] k = {0.5, -1, 2, 0.25}, q = {1, 2, 3, 4}, phi = {0.5, -0.3};
        Folds.turn(k, 1, 4, 1, phi, new double[] {2, 0.5});
        Folds.turn(q, 1, 4, 1, phi, new double[] {0.5, 2});
        assertArrayEquals(new double[] {-1.040120, -0.440728, 3.989756, 0.267177}, k, 1e-6);
        assertArrayEquals(new double[] {-0.280347, 6.185508, 1.556087, 6.460611}, q, 1e-6);
        double dot = 0;
        for (int i = 0; i < 4; i++) dot += q[i] * k[i];
        assertEquals(5.5, dot, 1e-12);
    }

    /** dL/dφ = G · J k̃ and dL/ds = G · Rot(φ) k of the worked pairs, by differences; the query's scale is the inverse. */
    @Test
    void slopesOfATurn() {
        double[] k = {1, 3}, gk = {1, -2}, q = {2, -1}, gq = {0.5, 1};
        assertEquals(-3.9815702, (turned(k, gk, 0.5 + 1e-5, 2) - turned(k, gk, 0.5 - 1e-5, 2)) / 2e-5, 1e-6);
        assertEquals(-6.7850405, (turned(k, gk, 0.5, 2 + 1e-5) - turned(k, gk, 0.5, 2 - 1e-5)) / 2e-5, 1e-6);
        assertEquals(1.0969782, (turned(q, gq, 0.5 + 1e-5, 0.5) - turned(q, gq, 0.5 - 1e-5, 0.5)) / 2e-5, 1e-6);
        assertEquals(-0.2996410, (turned(q, gq, 0.5, 1 / (2 + 1e-5)) - turned(q, gq, 0.5, 1 / (2 - 1e-5))) / 2e-5, 1e-6);
    }

    private static double turned(double[] x, double[] g, double phi, double s) {
        double[] t = x.clone();
        Folds.turn(t, 1, 2, 1, new double[] {phi}, new double[] {s});
        return g[0] * t[0] + g[1] * t[1];
    }

    @Test
    void aTurnMergedIntoMatrices() {
        double[] wk = {1, 0, 2, 0, -1, 1}, wq = {0.5, 1, 0, 1, 0, -1};
        Folds.turn(wk, 1, 2, 1, new double[] {Math.PI / 6}, new double[] {2});
        Folds.turn(wq, 1, 2, 1, new double[] {Math.PI / 6}, new double[] {0.5});
        assertArrayEquals(new double[] {1.732051, 1, 2.464102, 1, -1.732051, 3.732051}, wk, 1e-6);
        assertArrayEquals(new double[] {-0.033494, 0.433013, 0.25, 0.558013, 0.25, -0.433013}, wq, 1e-6);
    }

    @Test
    void valuesAndTheirInverse() {
        double[] m = {2, 1, 0, 0.5}, wv = {1, 2, 0, -1};
        assertArrayEquals(new double[] {0.5, -1, 0, 2}, Folds.inverse(m, 2), 1e-12);
        Folds.left(wv, m, 2);
        assertArrayEquals(new double[] {2, 4, 1, 1.5}, wv, 1e-12);
        double[] wo = {1, 0, 2, 1, 0, 1, -1, 3};   // two query heads a row
        Folds.right(wo, Folds.transpose(Folds.inverse(m, 2), 2), 2);
        assertArrayEquals(new double[] {0.5, 0, 0, 2, -1, 2, -3.5, 6}, wo, 1e-12);
    }

    @Test
    void hadamardMatrices() {
        double[] x = {1, 2, 3, 4};
        Folds.right(x, Hadamard.sylvester(4), 4);
        assertArrayEquals(new double[] {5, -1, -2, 0}, x, 1e-12);
        double[] eight = {1, 2, 3, 4, 5, 6, 7, 8};
        Folds.right(eight, Hadamard.sylvester(8), 8);
        assertArrayEquals(new double[] {12.727922, -1.414214, -2.828427, 0, -5.656854, 0, 0, 0}, eight, 1e-6);
        double[] twelve = Hadamard.of(12);
        int[] second = {-1, 1, -1, 1, -1, -1, -1, 1, 1, 1, -1, 1};
        for (int j = 0; j < 12; j++) {
            assertEquals(1, Math.sqrt(12) * twelve[j], 1e-12);
            assertEquals(second[j], Math.sqrt(12) * twelve[12 + j], 1e-12);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 4, 12, 20, 24, 28, 36, 44, 60, 96, 108, 140, 148, 192})
    void everyRowOfAHadamardMatrixIsOrthogonalToTheOthers(int n) {
        double[] h = Hadamard.of(n);
        for (double v : h) assertEquals(1, Math.abs(v) * Math.sqrt(n), 1e-12);
        assertOrthogonal(h, n);
    }

    @Test
    void orthogonalMatrices() {
        assertEquals(null, Hadamard.of(172));
        for (int n : new int[] {3, 64, 172}) assertOrthogonal(Hadamard.randomized(n, 1, 2), n);
        double[] x = normal(100, 3, 2);
        assertOrthogonal(Cayley.matrix(x, 10), 10);
    }

    private static void assertOrthogonal(double[] q, int n) {
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < n; j++) {
                double dot = 0;
                for (int k = 0; k < n; k++) dot += q[i * n + k] * q[j * n + k];
                assertEquals(i == j ? 1 : 0, dot, 1e-9);
            }
        }
    }

    @Test
    void cayleysMatrixAndGradient() {
        assertArrayEquals(new double[] {0.882353, -0.470588, 0.470588, 0.882353}, Cayley.matrix(new double[] {0, 0, 0.5, 0}, 2), 1e-6);
        double[] x = {0, 0, 0, 0.2, 0, 0, -0.4, 0.6, 0};
        double[] c = {0.912281, -0.070175, 0.403509, 0.280702, 0.824561, -0.491228, -0.298246, 0.561404, 0.771930};
        assertArrayEquals(c, Cayley.matrix(x, 3), 1e-6);
        double[] g = {1, 2, 3, 4, 5, 6, 7, 8, 9}, dx = Cayley.back(g, x, 3);
        assertArrayEquals(new double[] {0, 0, 0, 5.909511, 0, 0, 3.970452, -3.324100, 0}, dx, 1e-6);
    }

    @ParameterizedTest
    @CsvSource({"1, 8, 5.656854", "0, 8, 4"})
    void theFourthNormOfASpikeFallsWhenItIsTurned(int plain, double spike, double norm) {
        double[] x = {spike, 0, 0, 0};
        if (plain == 0) Folds.right(x, Hadamard.sylvester(4), 4);
        assertEquals(norm, Math.pow(Arrays.stream(x).map(v -> Math.pow(v, 4)).average().orElseThrow(), 0.25), 1e-6);
    }
}
