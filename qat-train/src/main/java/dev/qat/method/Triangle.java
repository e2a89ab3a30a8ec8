package dev.qat.method;

import java.util.function.IntConsumer;
import java.util.stream.IntStream;

/** Factors of a symmetric positive definite matrix in double precision, row-major, rows shared out over the cores. */
final class Triangle {
    /** Below this many elements of work a loop stays on its thread. */
    private static final int SMALL = 1 << 15;
    /** Rows of the inverse between two pauses. */
    private static final int ROWS = 64;

    private Triangle() {}

    /**
     * The upper U with A⁻¹ = Uᵀ U: the inverse of R in A = R Rᵀ, R upper, which is found from the last column to the first, so
     * that A itself is never inverted. Null where A is not positive definite.
     *
     * @param a (n, n), overwritten  @param pause runs every few seconds at the latest, and may throw
     */
    static double[] inverseFactor(double[] a, int n, Runnable pause) {
        double[] column = new double[n];
        for (int j = n - 1; j >= 0; j--) {
            pause.run();
            if (!(a[j * n + j] > 0) || Double.isInfinite(a[j * n + j])) return null;
            double r = a[j * n + j] = Math.sqrt(a[j * n + j]);
            for (int i = 0; i < j; i++) column[i] = a[i * n + j] /= r;
            int end = j;
            each(j, j * j / 2, i -> subtract(a, i * n + i, column, i, column[i], end - i));
        }
        return inverse(a, n, pause);
    }

    /** y[at + k] −= c · x[from + k] */
    private static void subtract(double[] y, int at, double[] x, int from, double c, int count) {
        for (int k = 0; k < count; k++) y[at + k] -= c * x[from + k];
    }

    /** Rows of R⁻¹ from the last: (e_i − Σ_{k>i} R_ik · row_k) / R_ii. */
    private static double[] inverse(double[] r, int n, Runnable pause) {
        double[] u = new double[n * n];
        int parts = n * n < SMALL ? 1 : 4 * Runtime.getRuntime().availableProcessors();
        for (int end = n; end > 0; end -= ROWS) {
            pause.run();
            int below = end, first = Math.max(0, end - ROWS);
            // columns are independent of one another: each part takes a range of them through all rows
            each(parts, parts == 1 ? 0 : SMALL, p -> rows(u, r, n, first, below, (int) ((long) n * p / parts), (int) ((long) n * (p + 1) / parts)));
        }
        return u;
    }

    /** Rows below {@code end} down to {@code first}, of which columns {@code from} to {@code to}. */
    private static void rows(double[] u, double[] r, int n, int first, int end, int from, int to) {
        for (int i = Math.min(end, to) - 1; i >= first; i--) {
            for (int k = i + 1; k < to; k++) {
                int at = Math.max(from, k);
                subtract(u, i * n + at, u, k * n + at, r[i * n + k], to - at);
            }
            if (i >= from) u[i * n + i] += 1;
            for (int k = Math.max(from, i); k < to; k++) u[i * n + k] /= r[i * n + i];
        }
    }

    private static void each(int count, long work, IntConsumer row) {
        if (work < SMALL) for (int i = 0; i < count; i++) row.accept(i);
        else IntStream.range(0, count).parallel().forEach(row);
    }
}
