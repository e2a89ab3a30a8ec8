package dev.qat.method;

import dev.qat.cpu.Doubles;

/**
 * An orthogonal matrix by free parameters: Q = B · C, C = (I − A/2)⁻¹ (I + A/2), A = tril(X) − tril(X)ᵀ, B a fixed orthogonal start.
 * X = 0 gives B; any optimizer may move X.
 */
final class Cayley {
    private Cayley() {}

    /** C of the parameters.   x (n, n), its strictly lower triangle */
    static double[] matrix(double[] x, int n) {
        return product(inverse(x, n), false, plus(x, n, 0.5), false, n);
    }

    /** (I − A/2)⁻¹ */
    private static double[] inverse(double[] x, int n) {
        return Doubles.inverse(plus(x, n, -0.5), n);
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
        double[] da = product(product(p, true, g, false, n), false, c, true, n), dx = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < i; j++) dx[i * n + j] = 0.5 * (da[i * n + j] - da[j * n + i]);
        return dx;
    }

    /**
     * One step of Cayley SGD (SpinQuant's): down the gradient among orthogonal matrices, the retraction solved exactly.
     *
     * <pre>
     * V = −Gᵀ;  Ŵ = V X − ½ Xᵀ (X V X);  W = Ŵ − Ŵᵀ;  α = min(1 / (‖W‖₁ + 1e-8), rate)
     * Xᵀ ← (I − αW/2)⁻¹ (I + αW/2) Xᵀ
     * </pre>
     * Before it, X, which was rounded, is brought back: X ← X (3 I − Xᵀ X) / 2.
     *
     * @param x (n, n), orthogonal up to rounding  @param g its gradient
     */
    static double[] step(double[] x, double[] g, double rate, int n) {
        double[] near = nearest(x, n), vx = product(g, true, near, false, n), w = new double[n * n];
        for (int i = 0; i < vx.length; i++) vx[i] = -vx[i];
        double[] half = product(near, true, product(near, false, vx, false, n), false, n);
        double most = 0;
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int i = 0; i < n; i++) {
                w[i * n + j] = vx[i * n + j] - 0.5 * half[i * n + j] - vx[j * n + i] + 0.5 * half[j * n + i];
                sum += Math.abs(w[i * n + j]);
            }
            most = Math.max(most, sum);
        }
        double alpha = Math.min(1 / (most + 1e-8), rate);
        for (int i = 0; i < w.length; i++) w[i] *= alpha;
        return product(near, false, matrix(w, n), true, n);
    }

    /** The orthogonal matrix next to one that was rounded, by one step of Newton and Schulz. */
    static double[] nearest(double[] x, int n) {
        double[] square = product(x, true, x, false, n);
        for (int i = 0; i < square.length; i++) square[i] = (i % (n + 1) == 0 ? 1.5 : 0) - 0.5 * square[i];
        return product(x, false, square, false, n);
    }

    /** The largest |XᵀX − I|. */
    static double error(double[] x, int n) {
        double[] square = product(x, true, x, false, n);
        double most = 0;
        for (int i = 0; i < square.length; i++) most = Math.max(most, Math.abs(square[i] - (i % (n + 1) == 0 ? 1 : 0)));
        return most;
    }

    private static double[] product(double[] a, boolean ta, double[] b, boolean tb, int n) {
        return Doubles.product(a, ta, b, tb, n, n, n);
    }
}
