package dev.qat.method;

import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * GPTQ's rounding of one weight (Frantar et al., arXiv 2210.17323, Algorithm 1): columns in order, each column's error spread
 * over those still to come so that ‖(W − Ŵ) X‖² stays least.
 *
 * <pre>
 * H = X Xᵀ + damp · mean(diag) · I      H⁻¹ = Uᵀ U, U upper
 * for each column j:  q_j = Q(w_j)   e = (w_j − q_j) / U_jj   w_k −= e · U_jk for k > j
 * Σ e² = ‖(W − Ŵ) X‖² + damp · mean(diag) · ‖W − Ŵ‖²
 * </pre>
 * Rows of W know nothing of one another and share U: they are taken some at a time, by which U is read once for all of them (the
 * paper's blocks of columns serve the same end; the result is the same).
 */
final class GptqSolver {
    /** @param order act-order: columns by falling diag(H), on grids found before any column moves  @param search GPTQ's mse grid search */
    record Options(int bits, int group, double damp, boolean order, boolean search) {}

    private static final int ROWS = 16;
    private static final double DAMP_STEP = 0.01;

    private final Options o;
    private final String name;
    private final int cols;
    private final int[] order;
    private final double[] u;   // (I, I), in the order of columns
    private final boolean[] dead;
    private final Runnable pause;
    private double[] error;   // (O) of the weight in work

    /** @param h (I, I), the sum of x xᵀ over tokens  @param pause runs every few seconds at the latest, and may throw */
    GptqSolver(String name, double[] h, int cols, Options o, Runnable pause) {
        this.name = name;
        this.pause = pause;
        this.o = o;
        this.cols = cols;
        dead = new boolean[cols];
        for (int j = 0; j < cols; j++) if (dead[j] = h[j * cols + j] == 0) h[j * cols + j] = 1;
        Integer[] by = IntStream.range(0, cols).boxed().toArray(Integer[]::new);
        if (o.order) Arrays.sort(by, (a, b) -> Double.compare(h[b * cols + b], h[a * cols + a]));
        order = Arrays.stream(by).mapToInt(Integer::intValue).toArray();
        u = factor(h);
    }

    /** U of the damped H; where H is not positive definite, with more damping. */
    private double[] factor(double[] h) {
        double mean = 0;
        for (int j = 0; j < cols; j++) mean += h[j * cols + j] / cols;
        for (double damp = o.damp; damp < 1; damp += DAMP_STEP) {
            double[] a = new double[cols * cols];
            for (int i = 0; i < cols; i++) {
                for (int j = 0; j < cols; j++) a[i * cols + j] = h[order[i] * cols + order[j]] + (i == j ? damp * mean : 0);
            }
            double[] factor = Triangle.inverseFactor(a, cols, pause);
            if (factor != null) return factor;
        }
        throw Fail.numeric("gptq: the inputs of %s have no positive definite second moments, even with damping 1 (NaN or infinite activations?). Nothing was written. Give more or other calibration text.", name);
    }

    /** W rounded.   w (O, I), overwritten */
    Solved solve(double[] w) {
        int rows = w.length / cols;
        Solved out = Solved.empty(rows, cols, o.group);
        error = new double[rows];
        Pieces.parallel(Math.ceilDiv(rows, ROWS), ROWS * (long) cols * cols / 2, pause, p -> rows(w, p * ROWS, Math.min(rows, (p + 1) * ROWS), out));
        return out;
    }

    /** Σ e² of the weight that was solved last. */
    double error() {
        return Arrays.stream(error).sum();
    }

    private void rows(double[] w, int from, int to, Solved out) {
        double[][] v = new double[to - from][cols];
        Range[][] grids = new Range[to - from][cols / o.group];
        for (int r = from; r < to; r++) {
            for (int j = 0; j < cols; j++) if (dead[j]) w[r * cols + j] = 0;
            for (int j = 0; j < cols; j++) v[r - from][j] = w[r * cols + order[j]];
            if (o.order) for (int g = 0; g < cols / o.group; g++) grids[r - from][g] = range(w, r * cols + g * o.group);
        }
        for (int j = 0; j < cols; j++) {
            int column = order[j], g = column / o.group;
            for (int r = from; r < to; r++) {
                double[] row = v[r - from];
                if (!o.order && j % o.group == 0) grids[r - from][g] = range(row, j);
                float q = grids[r - from][g].nearest(row[j]);
                out.values()[r * cols + column] = q;
                double e = (row[j] - q) / u[j * cols + j];
                error[r] += e * e;
                for (int k = j + 1; k < cols; k++) row[k] -= e * u[j * cols + k];
            }
        }
        for (int r = from; r < to; r++) {
            for (int g = 0; g < cols / o.group; g++) {
                out.step()[r * (cols / o.group) + g] = grids[r - from][g].step();
                out.zero()[r * (cols / o.group) + g] = grids[r - from][g].zero();
            }
        }
    }

    private Range range(double[] v, int from) {
        return o.search ? Range.searched(v, from, o.group, o.bits) : Range.minMax(v, from, o.group, o.bits);
    }
}
