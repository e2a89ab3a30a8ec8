package dev.qat.method;

import dev.qat.cpu.Doubles;

/** Factors of a symmetric positive definite matrix in double precision, row-major. */
final class Triangle {
    /** Rows of a matrix that is not halved any more. */
    private static final int SMALL = 48;

    private Triangle() {}

    /**
     * The upper U with A⁻¹ = Uᵀ U: the inverse of R in A = R Rᵀ, R upper, by halves, so that nearly all of it is products. Null where
     * A is not positive definite.
     *
     * <pre>
     * A = [a b; bᵀ c]   v = U(c)   r = b vᵀ   u = U(a − r rᵀ)   U(A) = [u, −u r v; 0, v]
     * </pre>
     *
     * @param a (n, n); its lower triangle is not read  @param pause runs before every product, and may throw
     */
    static double[] inverseFactor(double[] a, int n, Runnable pause) {
        if (n <= SMALL) return small(a.clone(), n);
        int p = n / 2, q = n - p;
        double[] v = inverseFactor(Doubles.block(a, n, p, p, q, q), q, pause);
        if (v == null) return null;
        pause.run();
        double[] r = Doubles.product(Doubles.block(a, n, 0, p, p, q), false, v, true, p, q, q);
        pause.run();
        double[] rest = Doubles.block(a, n, 0, 0, p, p), square = Doubles.product(r, false, r, true, p, q, p);
        for (int i = 0; i < rest.length; i++) rest[i] -= square[i];
        double[] u = inverseFactor(rest, p, pause);
        if (u == null) return null;
        pause.run();
        double[] rv = Doubles.product(r, false, v, false, p, q, q);
        pause.run();
        double[] urv = Doubles.product(u, false, rv, false, p, p, q), out = new double[n * n];
        for (int i = 0; i < p; i++) {
            System.arraycopy(u, i * p, out, i * n, p);
            for (int j = 0; j < q; j++) out[i * n + p + j] = -urv[i * q + j];
        }
        for (int i = 0; i < q; i++) System.arraycopy(v, i * q, out, (p + i) * n + p, q);
        return out;
    }

    /** R in place of A's upper triangle, from the last column; then its inverse, from the last row: (e_i − Σ_{k>i} R_ik · row_k) / R_ii. */
    private static double[] small(double[] a, int n) {
        for (int j = n - 1; j >= 0; j--) {
            if (!(a[j * n + j] > 0) || Double.isInfinite(a[j * n + j])) return null;
            double r = a[j * n + j] = Math.sqrt(a[j * n + j]);
            for (int i = 0; i < j; i++) a[i * n + j] /= r;
            for (int i = 0; i < j; i++) for (int k = i; k < j; k++) a[i * n + k] -= a[i * n + j] * a[k * n + j];
        }
        double[] u = new double[n * n];
        for (int i = n - 1; i >= 0; i--) {
            u[i * n + i] = 1;
            for (int k = i + 1; k < n; k++) for (int j = k; j < n; j++) u[i * n + j] -= a[i * n + k] * u[k * n + j];
            for (int j = i; j < n; j++) u[i * n + j] /= a[i * n + i];
        }
        return u;
    }
}
