package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.ops.Philox;
import dev.qat.tensor.Fail;
import org.junit.jupiter.api.Test;

/** The worked 2×3 example of GPTQ, its factor, and what rounding with it gains. */
final class GptqTest {
    private static final double[] W = {0.9, -0.35, 0.2, -0.5, 0.6, 0.45};
    private static final double[] H = {12, 6, 2, 6, 6, 2, 2, 2, 4};   // (2/1) Σ x xᵀ of (1,1,0), (1,0,1), (0,1,1), (2,1,0)

    private static GptqSolver.Options options(double damp) {
        return new GptqSolver.Options(2, 3, damp, false, false);
    }

    @Test
    void theFactorOfTheInverse() {
        double[] u = Triangle.inverseFactor(H.clone(), 3, () -> {});
        assertArrayEquals(new double[] {0.408248, -0.408248, 0, 0, 0.447214, -0.223607, 0, 0, 0.5}, u, 1e-6);
    }

    @Test
    void aMatrixThatIsNotPositiveDefiniteHasNone() {
        assertNull(Triangle.inverseFactor(new double[] {1, 2, 2, 1}, 2, () -> {}));
    }

    /** U Uᵀ-solves what it should on sizes where rows and columns are shared out: Uᵀ U A = 1. */
    @Test
    void theFactorOfALargeMatrix() {
        int n = 200;
        double[] a = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
            for (int k = 0; k < 12; k++) a[i * n + j] += Philox.normal(3, i, k, 0) * Philox.normal(3, j, k, 0);
            if (i == j) a[i * n + j] += 1;
        }
        double[] u = Triangle.inverseFactor(a.clone(), n, () -> {});
        for (int i = 0; i < n; i += 17) {
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < n; k++) {
                    double inverse = 0;
                    for (int m = 0; m <= Math.min(i, k); m++) inverse += u[m * n + i] * u[m * n + k];
                    sum += inverse * a[k * n + j];
                }
                assertEquals(i == j ? 1 : 0, sum, 1e-9, i + ", " + j);
            }
        }
    }

    @Test
    void workedExample() {
        GptqSolver plain = new GptqSolver("w", H.clone(), 3, options(0), () -> {}), damped = new GptqSolver("w", H.clone(), 3, options(0.01), () -> {});
        Solved got = plain.solve(W.clone());
        assertArrayEquals(new float[] {0.4166667f, 0.3666667f}, got.step(), 1e-6f);
        assertArrayEquals(new float[] {1, 1}, got.zero());
        assertArrayEquals(new float[] {0.8333333f, -0.4166667f, 0.4166667f, -0.3666667f, 0.3666667f, 0.3666667f}, got.values(), 1e-6f);
        assertEquals(0.2166667, error(got.values(), W, H, 3) / 2, 1e-6);
        assertEquals(0.2166667, plain.error() / 2, 1e-6);
        assertArrayEquals(got.values(), damped.solve(W.clone()).values(), "with a little damping the same codes");
        assertEquals(0.2216167, damped.error() / 2, 1e-6);
    }

    @Test
    void roundToNearestOfTheWorkedExample() {
        float[] q = nearest(W, 3, 2, 3);
        assertArrayEquals(new float[] {0.8333333f, -0.4166667f, 0, -0.3666667f, 0.7333333f, 0.3666667f}, q, 1e-6f);
        assertEquals(0.4361111, error(q, W, H, 3) / 2, 1e-6);
    }

    /** On correlated inputs GPTQ beats rounding to nearest, with groups, act-order and dead columns alike. */
    @Test
    void errorsFallOnCorrelatedInputs() {
        int O = 24, I = 64;
        double[] w = new double[O * I], h = new double[I * I], x = new double[I];
        for (int i = 0; i < w.length; i++) w[i] = Philox.normal(1, i, 0, 0);
        for (int t = 0; t < 300; t++) {
            for (int i = 0; i < I; i++) x[i] = i == 5 ? 0 : (i > 0 ? 0.8 * x[i - 1] : 0) + (1 + i % 7) * Philox.normal(2, i, t, 0);
            for (int i = 0; i < I; i++) for (int j = 0; j < I; j++) h[i * I + j] += x[i] * x[j];
        }
        double rtn = error(nearest(w, I, 3, 16), w, h, I);
        for (boolean order : new boolean[] {false, true}) {
            Solved got = new GptqSolver("w", h.clone(), I, new GptqSolver.Options(3, 16, 0.01, order, false), () -> {}).solve(w.clone());
            assertTrue(error(got.values(), w, h, I) < 0.7 * rtn, "act-order " + order + ": " + error(got.values(), w, h, I) + " against " + rtn);
            for (int i = 5; i < got.values().length; i += I) assertEquals(0, got.values()[i], "a column that no input reaches");
            for (int i = 0; i < got.values().length; i++) {
                double code = got.values()[i] / got.step()[i / 16] + got.zero()[i / 16];
                assertEquals(Math.rint(code), code, 1e-4, "on its grid");
                assertTrue(code > -0.5 && code < 7.5, "in its range: " + code);
            }
        }
    }

    @Test
    void inputsThatAreNoNumbersAreSaid() {
        double[] h = H.clone();
        h[4] = Double.NaN;
        Fail f = assertThrows(Fail.class, () -> new GptqSolver("model.layers.0.mlp.down_proj", h, 3, options(0.01), () -> {}));
        assertEquals(Fail.NUMERIC, f.code());
        assertTrue(f.getMessage().contains("model.layers.0.mlp.down_proj"), f.getMessage());
    }

    /** {0.3, 0.6, 0.9} keeps its largest value: 0 is on the grid, and nothing else is wasted below it. */
    @Test
    void aGroupOfOneSignUsesAllItsCodes() {
        Range r = Range.minMax(new double[] {0.3, 0.6, 0.9}, 0, 3, 4);
        assertEquals(0.06f, r.step(), 1e-7f);
        for (double v : new double[] {0.3, 0.6, 0.9}) assertEquals(v, r.nearest(v), 1e-6);
        assertEquals(0.9, Range.minMax(new double[] {0.5, 0.9}, 0, 2, 3).nearest(0.9), 1e-6);
    }

    private static float[] nearest(double[] w, int cols, int bits, int group) {
        float[] q = new float[w.length];
        for (int i = 0; i < w.length; i++) q[i] = Range.minMax(w, i / group * group, group, bits).nearest(w[i]);
        return q;
    }

    /** Σ over rows of d H dᵀ, d = w − q. */
    static double error(float[] q, double[] w, double[] h, int cols) {
        double sum = 0;
        for (int r = 0; r < w.length / cols; r++) {
            for (int i = 0; i < cols; i++) {
                for (int j = 0; j < cols; j++) sum += (w[r * cols + i] - q[r * cols + i]) * h[i * cols + j] * (w[r * cols + j] - q[r * cols + j]);
            }
        }
        return sum;
    }
}
