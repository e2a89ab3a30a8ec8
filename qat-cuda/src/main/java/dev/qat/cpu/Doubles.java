package dev.qat.cpu;

import java.lang.foreign.MemorySegment;
import java.util.stream.IntStream;

/**
 * Matrices of doubles on the host, for what is folded into weights: products by OpenBLAS, shared out over the machine's cores in
 * pieces of one size, so that a result does not depend on how many there are.
 */
public final class Doubles {
    /** Of a piece: so many that OpenBLAS, which copies both factors of each, computes for longer than it copies. */
    private static final int ROWS = 512, COLS = 1024;
    /** Multiply-adds below which a product is not worth a call. */
    private static final long FEW = 1 << 15;
    /** Rows of a matrix that is inverted by halves down to single numbers' work. */
    private static final int SMALL = 32;

    private Doubles() {}

    /** op(a) op(b), op the transpose where asked for.   op(a) (m, k)  op(b) (k, n) → (m, n) */
    public static double[] product(double[] a, boolean ta, double[] b, boolean tb, int m, int k, int n) {
        double[] out = new double[m * n];
        if ((long) m * k * n < FEW) {
            few(out, a, ta, b, tb, m, k, n);
            return out;
        }
        MemorySegment x = MemorySegment.ofArray(a), y = MemorySegment.ofArray(b), z = MemorySegment.ofArray(out);
        int across = Math.ceilDiv(n, COLS);
        IntStream.range(0, Math.ceilDiv(m, ROWS) * across).parallel().forEach(p -> {
            int row = p / across * ROWS, col = p % across * COLS, rows = Math.min(ROWS, m - row), cols = Math.min(COLS, n - col);
            Blas.gemm(ta, tb, rows, cols, k, x.asSlice(8L * row * (ta ? 1 : k)), ta ? m : k, y.asSlice(8L * col * (tb ? k : 1)), tb ? k : n, z.asSlice(8L * ((long) row * n + col)), n);
        });
        return out;
    }

    private static void few(double[] out, double[] a, boolean ta, double[] b, boolean tb, int m, int k, int n) {
        for (int i = 0; i < m; i++) {
            for (int c = 0; c < k; c++) {
                double v = a[ta ? c * m + i : i * k + c];
                for (int j = 0; j < n; j++) out[i * n + j] += v * b[tb ? j * k + c : c * n + j];
            }
        }
    }

    /**
     * m⁻¹ of a matrix whose symmetric part is positive definite, as I plus any skew-symmetric one: then every leading block has an
     * inverse, and halves need no pivots.
     *
     * <pre>
     * [a b; c d]⁻¹ = [a⁻¹ + u s⁻¹ v, −u s⁻¹; −s⁻¹ v, s⁻¹],  u = a⁻¹ b,  v = c a⁻¹,  s = d − v b
     * </pre>
     */
    public static double[] inverse(double[] m, int n) {
        if (n <= SMALL) return eliminated(m, n);
        int p = n / 2, q = n - p;
        double[] a = inverse(block(m, n, 0, 0, p, p), p), b = block(m, n, 0, p, p, q), c = block(m, n, p, 0, q, p);
        double[] u = product(a, false, b, false, p, p, q), v = product(c, false, a, false, q, p, p);
        double[] s = inverse(minus(block(m, n, p, p, q, q), product(v, false, b, false, q, p, q)), q);
        double[] us = product(u, false, s, false, p, q, q), sv = product(s, false, v, false, q, q, p), usv = product(us, false, v, false, p, q, p);
        double[] out = new double[n * n];
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < n; j++) {
                out[i * n + j] = i < p ? j < p ? a[i * p + j] + usv[i * p + j] : -us[i * q + j - p] : j < p ? -sv[(i - p) * p + j] : s[(i - p) * q + j - p];
            }
        }
        return out;
    }

    /** A copy of the (rows, cols) of a matrix of n columns that begin at (row, col). */
    public static double[] block(double[] m, int n, int row, int col, int rows, int cols) {
        double[] out = new double[rows * cols];
        for (int i = 0; i < rows; i++) System.arraycopy(m, (row + i) * n + col, out, i * cols, cols);
        return out;
    }

    private static double[] minus(double[] a, double[] b) {
        for (int i = 0; i < a.length; i++) a[i] -= b[i];
        return a;
    }

    /** Gauss and Jordan's, in place of a copy. */
    private static double[] eliminated(double[] m, int n) {
        double[] x = m.clone();
        for (int k = 0; k < n; k++) {
            double pivot = 1 / x[k * n + k];
            x[k * n + k] = 1;
            for (int j = 0; j < n; j++) x[k * n + j] *= pivot;
            for (int i = 0; i < n; i++) {
                if (i == k) continue;
                double f = x[i * n + k];
                x[i * n + k] = 0;
                for (int j = 0; j < n; j++) x[i * n + j] -= f * x[k * n + j];
            }
        }
        return x;
    }
}
