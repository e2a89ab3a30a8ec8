package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Arena;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.util.List;
import org.junit.jupiter.api.Test;

final class AdamWTest {
    private static final int N = 5;

    @Test
    void followsTheBookThroughClippingDecayAndNeighbours() {
        try (Backend be = new CpuBackend(1)) {
            List<Param> params = Slab.of(be.memory(), "p", s -> List.of(s.param("a", Kind.WEIGHT, N), s.param("b", Kind.WEIGHT, N)));
            Tensor a = params.get(0).value(), b = params.get(1).value(), target = be.memory().tensor("target", N);
            be.memory().set(a, 1, -2, 3, 0, 0.5f);
            be.memory().set(b, 0f, 0f, 0f, 0f, 0f);
            be.memory().set(target, 0f, 1f, 2f, 3f, 4f);
            try (AdamW adam = new AdamW(be, List.of(new AdamW.Group(params, 0.1, 0.01)), new AdamW.Config(0.9, 0.999, 1e-8, 0.5));
                 Step step = new Step(be, "step", true, t -> {
                     Ops.mse(t, Ops.add(t, a, b), target);
                     t.backward();
                     adam.update(t.backend());
                 })) {
                assertEquals(2L * N, adam.trainable());
                for (int i = 0; i < 7; i++) {
                    adam.prepare(1);
                    step.run();
                    if (i == 0) adam.checkAllReached(step.tape());
                }
            }
            double[] expected = twoTerms(7);
            float[] got = be.memory().floats(a);
            for (int i = 0; i < N; i++) assertEquals(expected[i], got[i], 2e-5, "element " + i);
        }
    }

    /**
     * By the book, in double, for p = a + b with both trained: p ← p − lr (m̂ / (√v̂ + ε) + λ p), gradients clipped to a norm.
     * The gradients of a and b are equal, the norm is that of both.
     */
    private static double[] twoTerms(int steps) {
        double[] a = {1, -2, 3, 0, 0.5}, b = new double[N], target = {0, 1, 2, 3, 4};
        double[] ma = new double[N], va = new double[N];
        for (int t = 1; t <= steps; t++) {
            double[] g = new double[N];
            double norm = 0;
            for (int i = 0; i < N; i++) norm += 2 * Math.pow(g[i] = 2 * (a[i] + b[i] - target[i]) / N, 2);
            double clip = Math.min(1, 0.5 / (Math.sqrt(norm) + 1e-6));
            for (int i = 0; i < N; i++) {
                ma[i] = 0.9 * ma[i] + 0.1 * clip * g[i];
                va[i] = 0.999 * va[i] + 0.001 * Math.pow(clip * g[i], 2);
                double move = ma[i] / (1 - Math.pow(0.9, t)) / (Math.sqrt(va[i] / (1 - Math.pow(0.999, t))) + 1e-8);
                a[i] -= 0.1 * (move + 0.01 * a[i]);
                b[i] -= 0.1 * (move + 0.01 * b[i]);
            }
        }
        return a;
    }

    @Test
    void aParameterThatNothingReachesIsAnErrorNotASilentZero() {
        try (Backend be = new CpuBackend(1)) {
            List<Param> params = Slab.of(be.memory(), "p", s -> List.of(s.param("used", Kind.WEIGHT, N), s.param("forgotten", Kind.WEIGHT, N)));
            Tensor target = be.memory().tensor("target", N);
            try (AdamW adam = new AdamW(be, List.of(new AdamW.Group(params, 0.1, 0)), AdamW.Config.DEFAULTS)) {
                Tape tape = new Tape(be, Arena.of(be.memory(), "arena", 1 << 16));
                tape.begin(true);
                Ops.mse(tape, Ops.scale(tape, params.get(0).value(), 2), target);
                tape.backward();
                Fail e = assertThrows(Fail.class, () -> adam.checkAllReached(tape));
                assertTrue(e.getMessage().contains("forgotten"), e.getMessage());
            }
        }
    }
}
