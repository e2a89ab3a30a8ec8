package dev.qat.method;

/**
 * An orthogonal matrix by free parameters: Q = B · C, C = (I − A/2)⁻¹ (I + A/2), A = tril(X) − tril(X)ᵀ, B a fixed orthogonal start.
 * X = 0 gives B; any optimizer may move X.
 */
final class Cayley {
    private Cayley() {}

    /** C of the parameters.   x (n, n), its strictly lower triangle */
    static double[] matrix(double[] x, int n) {
        return product(inverse(x, n), plus(x, n, 0.5), n);
    }

    /** (I − A/2)⁻¹ */
    private static double[] inverse(double[] x, int n) {
        return Folds.inverse(plus(x, n, -0.5), n);
    }

    /** I + s A */
    private static double[] plus(double[] x, int n, double s) {
        double[] m = new double[n * n];
        for (int i = 0; i < n; i++) {
            m[i * n + i] = 1;
            for (int j = 0; j < i; j++) {
                m[i * n + j] = s * x[i * n + j];
                m[j * n + i] = -s * x[i * n + j];
            }
        }
        return m;
    }

    /** dL/dX of G = dL/dC: with P = (I − A/2)⁻¹, dA = ½ Pᵀ G (I + C)ᵀ, and dX = dA − dAᵀ below the diagonal. */
    static double[] back(double[] g, double[] x, int n) {
        double[] p = inverse(x, n), c = matrix(x, n);
        for (int i = 0; i < n; i++) c[i * n + i] += 1;
        double[] da = product(product(Folds.transpose(p, n), g, n), Folds.transpose(c, n), n), dx = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < i; j++) dx[i * n + j] = 0.5 * (da[i * n + j] - da[j * n + i]);
        return dx;
    }

    private static double[] product(double[] a, double[] b, int n) {
        double[] out = a.clone();
        Folds.right(out, b, n);
        return out;
    }
}
