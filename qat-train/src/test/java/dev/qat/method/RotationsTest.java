package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Probe;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Rotations that train, and those that stay in the forward pass. */
final class RotationsTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};

    @TempDir
    Path temp;

    // ---- Cayley's steps ----------------------------------------------------------------------------------------------

    @Test
    void workedSteps() {
        double[] one = {1, 0, 0, 1}, g = {1, 2, 3, 5};
        assertArrayEquals(new double[] {0.99875078, 0.04996877, -0.04996877, 0.99875078}, Cayley.step(one, g, 0.1, 2), 1e-7);
        assertArrayEquals(new double[] {0.7534247, 0.6575342, -0.6575342, 0.7534247}, Cayley.step(one, g, 1.5, 2), 1e-7);
    }

    /** However large the gradient, rows stay orthonormal; and a small step goes down. */
    @Test
    void stepsStayOrthogonalAndGoDown() {
        int n = 12;
        double[] x = Hadamard.random(n, 5, 1), target = Hadamard.random(n, 5, 2);
        double first = -trace(x, target);
        for (int i = 0; i < 300; i++) {
            double[] g = target.clone();
            for (int k = 0; k < g.length; k++) g[k] = -g[k];   // of −Σ X · target
            x = Cayley.step(x, g, 0.1, n);
            for (int k = 0; k < x.length; k++) x[k] = (float) x[k];
        }
        assertTrue(Cayley.error(x, n) < 1e-6, "off by " + Cayley.error(x, n));
        assertTrue(-trace(x, target) < first - 5, first + " -> " + -trace(x, target));
    }

    private static double trace(double[] a, double[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) sum += a[i] * b[i];
        return sum;
    }

    // ---- rotations that train ----------------------------------------------------------------------------------------

    private interface Looking {
        void at(Run run, Turns turns);
    }

    private void look(String config, Looking looking) {
        Loud.look(temp, Tiny.named(config), run -> {
            Model m = run.student();
            m.untie();
            Merge to = new Merge(m.memory());
            Folds.gains(to, m);
            to.store();
            try (Turns turns = new Turns(run, 0.1, true)) {
                turns.install();
                looking.at(run, turns);
            }
        });
    }

    private static void randomize(Run run, Turns turns) {
        int key = 0;
        for (Param p : turns.params()) {
            double[] q = Hadamard.random(Math.toIntExact(p.value().rows()), 7, key++);
            float[] f = new float[q.length];
            for (int i = 0; i < f.length; i++) f[i] = (float) q[i];
            run.backend().memory().set(p.value(), f);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3"})
    void theyLeaveTheModelAsItIsThroughSitesAndMerged(String config) {
        look(config, (run, turns) -> {
            Probe probe = new Probe(run.backend(), run.student());
            float[] before = probe.logits(IDS);
            randomize(run, turns);
            assertEquals(0, Probe.off(before, probe.logits(IDS)), 1e-4, "through the sites");
            Merge to = new Merge(run.backend().memory());
            turns.merge(to);
            run.reset();
            to.store();
            assertEquals(0, Probe.off(before, probe.logits(IDS)), 1e-4, "merged");
        });
    }

    @Test
    void whatIsNoRotationIsRefused() {
        look("llama", (run, turns) -> {
            Tensor r = turns.params().getFirst().value();
            float[] v = run.backend().memory().floats(r);
            v[1] += 1e-4f;
            run.backend().memory().set(r, v);
            Fail f = assertThrows(Fail.class, () -> turns.merge(new Merge(run.backend().memory())));
            assertEquals(Fail.NUMERIC, f.code());
        });
    }

    /** The gradient of every rotation against differences of the loss; along the rotations it is zero, since they change nothing. */
    @ParameterizedTest
    @ValueSource(strings = {"biased", "qwen3"})
    void theirGradient(String config) {
        look(config, (run, turns) -> {
            randomize(run, turns);
            Slopes.check(run, turns.params(), 2e-3f, () -> {}).forEach((p, g) -> {
                double[] along = tangent(run.backend().memory().floats(p.value()), g, Math.toIntExact(p.value().rows()));
                double most = 0, plain = 0;
                for (int i = 0; i < along.length; i++) {
                    most = Math.max(most, Math.abs(along[i]));
                    plain = Math.max(plain, Math.abs(g[i]));
                }
                assertTrue(most < 1e-3 * plain, p.name() + ": " + most + " of " + plain + " pulls where nothing is rounded");
            });
        });
    }

    /** Xᵀ G − Gᵀ X */
    private static double[] tangent(float[] x, float[] g, int n) {
        double[] t = new double[n * n];
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < n; j++) for (int k = 0; k < n; k++) t[i * n + j] += (double) x[k * n + i] * g[k * n + j] - (double) g[k * n + i] * x[k * n + j];
        }
        return t;
    }

    @Test
    void spinQuantBringsRoundingNearer() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            Stage rounding = new MinMaxRounding("4-3-16", -1, false, false);
            double quarot = Loud.run(temp, be, model, List.of(new Rotate(true, true, true), rounding)).getLast().kl();
            List<Row> rows = Loud.run(temp, be, model, List.of(new SpinQuant("4-3-16", true, 80, 8, 0.03, EndToEnd.Loss.DISTILL, Part.ALL, true, false), rounding));
            System.out.printf("rotated at random, then 4-3-16: KL %.4f; trained: %.4f%n", quarot, rows.getLast().kl());
            assertEquals(0, rows.get(1).kl(), 1e-5, "merged, it computes what it did");
            assertTrue(rows.get(1).notes().get("orthogonality") < 1e-6);
            assertTrue(rows.getLast().kl() < 0.95 * quarot, rows.getLast().kl() + ", at random " + quarot);
        }
    }

    // ---- rotations that stay -----------------------------------------------------------------------------------------

    /** Nothing is left in the graph but what cannot be merged, and what is computed stays. */
    @ParameterizedTest
    @CsvSource({"llama, 4", "biased, 4", "qwen2, 4", "qwen3, 4", "llama, 1", "biased, 1", "qwen3, 1", "llama, 0"})
    void onlyOnlineRotationsAreLeft(String config, int perBlock) {
        Stage stage = perBlock == 4 ? new Rotate(true, true, true) : perBlock == 1 ? new FptLocal(4, 5, 0.01, true, true, true) : Rotate.DEFAULTS;
        Loud.look(temp, Tiny.named(config), run -> {
            Backend be = run.backend();
            Model m = run.student();
            Map<String, Long> before = Probe.calls(be, m, IDS.length);
            float[] logits = new Probe(be, m).logits(IDS);
            stage.run(run);
            for (String when : new String[] {"after the stage", "after bake"}) {
                Map<String, Long> after = Probe.calls(be, m, IDS.length);
                assertEquals(perBlock * m.blocks().size(), after.getOrDefault("hadamard", 0L), when);
                assertEquals(perBlock == 1 && !config.equals("biased") ? 4 * m.blocks().size() : 0, after.getOrDefault("rmsScale", 0L), when);
                after.keySet().removeAll(Set.of("hadamard", "rmsScale"));
                assertEquals(before, after, when);
                assertEquals(0, Probe.off(logits, new Probe(be, m).logits(IDS)), 1e-4, when);
                run.reset();
                run.bake();
            }
        });
    }

    /** The scales of T_u and the rest train around the rotation of down's input, and freezing keeps what was trained. */
    @Test
    void scalesPassTheRotationOfDown() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 6);
            List<Row> rows = Loud.run(temp, be, model, List.of(new FptLocal(4, 20, 0.01, true, true, false), new Teq(3, 12, 20, 8, 1e-2, 0.05, Teq.Loss.DISTILL, false, true, false, Part.ALL, true, false)));
            assertEquals(0, rows.getLast().kl(), 1e-5);
        }
    }

    /** What follows passes rotations on the way of o and down: heads that are turned together belong to different key/value heads here. */
    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen3"})
    void transformsPassTheRotationsOnTheWay(String config) {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.named(config), 6);
            List<Row> rows = Loud.run(temp, be, model, List.of(new Rotate(true, true, true), new Teq(3, 4, 20, 8, 1e-2, 0.05, Teq.Loss.DISTILL, false, true, true, Part.ALL, true, false),
                    new FptLocal(4, 5, 0.01, false, false, false)));
            for (Row row : rows) assertEquals(0, row.kl(), 1e-5, row.name());
        }
    }

    /** Written and read again, the model turns and scales what it did; config.json says so, and its type is one that other engines refuse. */
    @ParameterizedTest
    @ValueSource(strings = {"rotate", "fpt-local"})
    void theWrittenModelTurnsToo(String method) throws Exception {
        boolean turns = method.equals("rotate");
        Stage stage = turns ? new Rotate(true, true, true) : new FptLocal(4, 5, 0.01, true, true, true);
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 6);
            List<Row> rows = Loud.run(temp, be, model, List.of(stage));
            assertEquals(0, rows.getLast().kl(), 1e-5);
            Path made = temp.resolve("runs/run/model");
            String config = java.nio.file.Files.readString(made.resolve("config.json"));
            assertTrue(config.contains("\"llama-online\"") && config.contains("qat_online"), config);
            try (var dir = dev.qat.data.HfModelDir.open(made); var plain = dev.qat.data.HfModelDir.open(model)) {
                Model a = Model.load(plain, be.memory()), b = Model.load(dir, be.memory());
                assertEquals(turns ? new ModelConfig.Online(4, 2, 4, false) : new ModelConfig.Online(4, 0, 0, true), b.config.online());
                assertEquals(0, Probe.off(new Probe(be, a).logits(IDS), new Probe(be, b).logits(IDS)), 1e-4);
                assertArrayEquals(new Probe(be, a).greedy(new int[] {1, 7}, 8), new Probe(be, b).greedy(new int[] {1, 7}, 8), "token by token");
            }
            Fail f = assertThrows(Fail.class, () -> Loud.run(temp.resolve("again"), be, made, List.of(stage)));
            assertEquals(Fail.USAGE, f.code());
        }
    }
}
