package dev.qat.method;

import dev.qat.ops.Philox;
import org.apache.commons.math3.linear.Array2DRowRealMatrix;
import org.apache.commons.math3.linear.QRDecomposition;
import org.apache.commons.math3.linear.RealMatrix;

/** Orthogonal matrices (n, n), row-major, every one with orthonormal rows. */
final class Hadamard {
    private static final int SIGN = 1, NORMAL = 2;

    private Hadamard() {}

    /** H₂ ⊗ … ⊗ H₂ / √n for a power of two: symmetric, its own inverse. */
    static double[] sylvester(int n) {
        double[] h = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) h[i * n + j] = (Integer.bitCount(i & j) % 2 == 0 ? 1 : -1) / Math.sqrt(n);
        return h;
    }

    /** The largest power of two that divides n. */
    static int block(int n) {
        return Integer.lowestOneBit(n);
    }

    /** Entries ±1/√n for every n = m · 2^k with m a power of two or one of Paley's orders, the smallest such m; null where there is none here. */
    static double[] of(int n) {
        for (int m = n / block(n); m <= n; m *= 2) {
            double[] core = m == 1 || m == 2 ? sylvester(m) : paley(m);
            if (core != null) return kronecker(core, m, sylvester(n / m), n / m);
        }
        return null;
    }

    /** Paley's constructions: order q + 1 for a prime q ≡ 3 (mod 4), 2 (q + 1) for q ≡ 1 (mod 4); null for other orders. */
    private static double[] paley(int m) {
        if (prime(m - 1) && (m - 1) % 4 == 3) return first(m);
        if (m % 2 == 0 && prime(m / 2 - 1) && (m / 2 - 1) % 4 == 1) return second(m);
        return null;
    }

    /** I + [[0, 1ᵀ], [−1, Q]], Q_ij = χ(i − j); not symmetric. */
    private static double[] first(int m) {
        double[] h = new double[m * m];
        for (int i = 0; i < m; i++) {
            for (int j = 0; j < m; j++) {
                double v = i == j ? 1 : i == 0 ? 1 : j == 0 ? -1 : legendre(i - j, m - 1);
                h[i * m + j] = v / Math.sqrt(m);
            }
        }
        return h;
    }

    /** C ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]], C = [[0, 1ᵀ], [1, Q]] */
    private static double[] second(int m) {
        int[][] off = {{1, 1}, {1, -1}}, diagonal = {{1, -1}, {-1, -1}};
        double[] h = new double[m * m];
        for (int i = 0; i < m; i++) {
            for (int j = 0; j < m; j++) {
                int a = i / 2, b = j / 2, c = a == b ? 0 : a == 0 || b == 0 ? 1 : legendre(a - b, m / 2 - 1);
                h[i * m + j] = (a == b ? diagonal : off)[i % 2][j % 2] * (a == b ? 1 : c) / Math.sqrt(m);
            }
        }
        return h;
    }

    private static boolean prime(int q) {
        if (q < 2) return false;
        for (int d = 2; d * d <= q; d++) if (q % d == 0) return false;
        return true;
    }

    /** 1 for a square modulo q, −1 for none. */
    private static int legendre(int v, int q) {
        int a = Math.floorMod(v, q);
        long power = 1, base = a;
        for (int e = (q - 1) / 2; e > 0; e /= 2) {
            if (e % 2 == 1) power = power * base % q;
            base = base * base % q;
        }
        return a == 0 ? 0 : power == 1 ? 1 : -1;
    }

    static double[] kronecker(double[] a, int m, double[] b, int n) {
        double[] out = new double[m * n * m * n];
        for (int i = 0; i < m * n; i++) for (int j = 0; j < m * n; j++) out[i * m * n + j] = a[i / n * m + j / n] * b[i % n * n + j % n];
        return out;
    }

    /** Random signs on the rows of a Hadamard matrix; where there is none of this order, a {@link #random} one. */
    static double[] randomized(int n, long seed, int key) {
        double[] h = of(n);
        if (h == null) return random(n, seed, key);
        for (int i = 0; i < n; i++) {
            if (Philox.uniform(seed, i, key, SIGN) < 0.5f) for (int j = 0; j < n; j++) h[i * n + j] = -h[i * n + j];
        }
        return h;
    }

    /** Uniform among orthogonal matrices: Q of a normal matrix, signs such that R's diagonal is positive. */
    static double[] random(int n, long seed, int key) {
        RealMatrix a = new Array2DRowRealMatrix(n, n);
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) a.setEntry(i, j, Philox.normal(seed, (long) i * n + j, key, NORMAL));
        QRDecomposition qr = new QRDecomposition(a);
        double[] q = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) q[i * n + j] = qr.getQ().getEntry(i, j) * Math.signum(qr.getR().getEntry(j, j));
        return q;
    }
}
