package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Tape;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import dev.qat.train.Step;
import dev.qat.train.TinyModels;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Ternary weights on a tiny model: frozen codes are what was trained, dead weights are one bias per row. */
final class TernaryTest {
    @TempDir
    Path temp;

    private Model model(Backend be) {
        return TinyModels.load(TinyModels.write(temp.resolve("m"), be, 5), be);
    }

    private static float[] computed(Backend be, Linear l, boolean bias) {
        Tensor out = be.memory().tensor("out", bias ? new long[] {l.outputs()} : l.weight.value().dims());
        Consumer<Tape> body = t -> {
            Tensor b = bias(t, l), w = weight(t, l);
            be.copy(out, bias ? b : w);
        };
        try (Step step = new Step(be, "sites", false, t -> {
            if (t.backend() == be) body.accept(t);
            else {
                bias(t, l);
                weight(t, l);
            }
        })) {
            step.run();
        }
        float[] all = be.memory().floats(out);
        for (int i = 0; i < all.length; i++) all[i] += 0f; // -0 is 0
        return all;
    }

    private static Tensor bias(Tape t, Linear l) {
        return l.biasSite.through(t, l.bias == null ? null : l.bias.value());
    }

    private static Tensor weight(Tape t, Linear l) {
        return l.weightSite.through(t, l.weight.value());
    }

    @ParameterizedTest(name = "{0}, groups of {1}, {2}, signs {3}")
    @CsvSource({"ABSMEAN, 16, , false", "ABSMEAN, -1, FIXED, false", "ABSMEAN, -2, FIXED, true", "TWN, 32, ROW, false", "MEDIAN, 64, FIXED, false", "LSQ, 16, WEIGHT, false", "LSQ, 16, WEIGHT, true", "LSQ, -2, , false",
            "SEQ, -1, , false", "SEQ_OFFICIAL, 32, FIXED, false", "SHERRY, 16, , false", "SEQ_FOURS, 16, , false", "SEQ_FOURS, -2, , false"})
    void whatIsFrozenIsExactlyWhatWasTrained(Ternary.Kind rule, int group, Tequila.Epsilon learn, boolean sign) {
        try (Backend be = new CpuBackend(2)) {
            Linear l = model(be).blocks().getFirst().down;
            TernaryWeight q = TernaryWeight.install(be, List.of(l), new Ternary(rule, group, 0, 0.01, learn, sign), null).getFirst();
            float[] trained = computed(be, l, false);
            PackedWeight p = q.freeze(be);
            Tensor packed = be.memory().tensor("packed", l.weight.value().dims());
            be.dequantize(packed, p, p.step());
            assertArrayEquals(trained, be.memory().floats(packed));
            long zeros = 0;
            for (float w : trained) if (w == 0) zeros++;
            assertEquals(zeros, q.dead(be, be.memory().tensor("scratch", 3 * l.outputs())));
            assertTrue(rule == Ternary.Kind.SEQ_FOURS ? zeros == 0 : zeros > 0.1 * trained.length && zeros < 0.9 * trained.length, zeros + " of " + trained.length + " are dead");
            if (learn == null) {
                assertNull(p.bias());
            } else {
                assertNotNull(p.bias());
                assertArrayEquals(computed(be, l, true), be.memory().floats(p.bias()), 1e-6f);
            }
            TernaryWeight.free(be.memory(), List.of(q));
        }
    }

    /** ŵ = level · scale · t + shift, kept as plain weights. */
    @Test
    void aShiftStaysInTheWeights() {
        try (Backend be = new CpuBackend(1)) {
            Linear l = model(be).blocks().getFirst().up;
            TernaryWeight q = TernaryWeight.install(be, List.of(l), new Ternary(Ternary.Kind.DLT, 16, 0), null).getFirst();
            be.fill(q.params().get(1).value(), 0.03f);
            float[] trained = computed(be, l, false);
            q.bake(be);
            assertArrayEquals(trained, be.memory().floats(l.weight.value()));
            for (float w : trained) assertTrue(w != 0);
        }
    }

    /** dL/dw of a dead weight is what the product gives plus ε times what the bias gives; of a live one the product's alone. */
    @Test
    void deadWeightsGetBothGradients() {
        try (Backend be = new CpuBackend(1)) {
            Linear l = model(be).blocks().getFirst().gate;
            int O = (int) l.outputs(), I = (int) l.inputs();
            float epsilon = 0.25f;
            TernaryWeight.install(be, List.of(l), new Ternary(Ternary.Kind.ABSMEAN, 16, 0, epsilon, Tequila.Epsilon.FIXED, false), null);
            float[] w = computed(be, l, false), x = new float[3 * I];
            for (int i = 0; i < x.length; i++) x[i] = (float) Math.sin(i);
            Tensor in = be.memory().tensor("x", 3, I), target = be.memory().tensor("target", 3, O);
            be.memory().set(in, x);
            be.fill(target, 0.5f);
            l.weight.value().wants = true;
            l.weight.value().grad = be.memory().tensor("dw", O, I);
            float[][] y = new float[1][];
            try (Step step = new Step(be, "step", true, t -> {
                Tensor out = l.forward(t, in, null);
                if (t.backend() == be) y[0] = be.memory().floats(out);
                dev.qat.ops.Ops.mse(t, out, target);
                t.backward();
            })) {
                step.run();
            }
            float[] got = be.memory().floats(l.weight.value().grad);
            for (int k = 0; k < O * I; k += 7) {
                double product = 0, sum = 0;
                for (int n = 0; n < 3; n++) {
                    double dy = 2 * (y[0][n * O + k / I] - 0.5) / (3 * O);
                    product += dy * x[n * I + k % I];
                    sum += dy;
                }
                assertEquals(product + (w[k] == 0 ? epsilon * sum : 0), got[k], 1e-6 + 1e-5 * Math.abs(got[k]));
            }
        }
    }

    @Test
    void sherrysResidualRisesAndFalls() {
        Sherry s = new Sherry(64, 1, 0.1, 0, Course.DEFAULTS);
        assertEquals(0, s.residual(0, 101), 1e-12);
        assertEquals(0.5, s.residual(5, 101), 1e-12);
        assertEquals(1, s.residual(10, 101), 1e-12);
        assertEquals(0, s.residual(100, 101), 1e-12);
    }

    @Test
    void nonsenseIsRefused() {
        assertThrows(dev.qat.tensor.Fail.class, () -> new Ternary(Ternary.Kind.TWN, 0, 0));
        assertThrows(dev.qat.tensor.Fail.class, () -> new Ternary(Ternary.Kind.SHERRY, 6, 0));
        assertThrows(dev.qat.tensor.Fail.class, () -> new Ternary(Ternary.Kind.TWN, 64, 1));
    }
}
