package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Param;

/** The decoder in double precision, straight from its formulas: what a fold must not change by more than rounding. */
final class DoubleLm {
    private final Model m;
    private final ModelConfig c;
    private final Merge weights;
    /** Pairs of rope are neighbours (2j, 2j + 1) instead of (j, j + D/2): another model, for tests that must fail. */
    boolean interleaved;
    /** Size of the Hadamard rotation that down's input passes; 0 for none. */
    int rotation;
    /** How FPTQuant's S_n keeps the residual of every token: not at all, or scaled, from norm to norm, ε with it or (a mistake) as it was. */
    enum Residual { PLAIN, SCALED, SCALED_BUT_EPS }

    Residual residual = Residual.PLAIN;
    /** Scales what o and down read, not what they make: right only where they have no bias. */
    boolean atInputs;
    /** What the residual of each token was multiplied by. */
    private double[] scale;

    DoubleLm(Model m, Merge weights) {
        this.m = m;
        this.c = m.config;
        this.weights = weights;
    }

    /** (T, V) */
    double[] logits(int... ids) {
        int T = ids.length, C = c.C();
        double[][] x = new double[T][];
        scale = new double[T];
        java.util.Arrays.fill(scale, 1);
        for (int t = 0; t < T; t++) x[t] = java.util.Arrays.copyOfRange(weights.of(m.embedding), ids[t] * C, (ids[t] + 1) * C);
        for (Block b : m.blocks()) block(b, x);
        double[] out = new double[T * c.V()], head = weights.of(m.head);
        for (int t = 0; t < T; t++) {
            double[] n = normed(x[t], t, weights.of(m.norm));
            for (int v = 0; v < c.V(); v++) for (int i = 0; i < C; i++) out[t * c.V() + v] += n[i] * head[v * C + i];
        }
        return out;
    }

    private void block(Block b, double[][] x) {
        int T = x.length, D = c.D(), group = c.H() / c.K();
        double[][] q = new double[T][], k = new double[T][], v = new double[T][];
        for (int t = 0; t < T; t++) {
            double[] n = normed(x[t], t, weights.of(b.norm1));
            q[t] = turned(heads(linear(b.q, n), b.qNorm), t);
            k[t] = turned(heads(linear(b.k, n), b.kNorm), t);
            v[t] = linear(b.v, n);
        }
        for (int t = 0; t < T; t++) {
            double[] o = new double[c.H() * D];
            for (int h = 0; h < c.H(); h++) attend(o, h * D, h / group * D, q[t], k, v, t);
            add(x[t], onto(b.o, o, t));
        }
        for (int t = 0; t < T; t++) {
            double[] n = normed(x[t], t, weights.of(b.norm2)), gate = linear(b.gate, n), up = linear(b.up, n);
            for (int i = 0; i < up.length; i++) up[i] *= gate[i] / (1 + Math.exp(-gate[i]));
            if (rotation > 0) Folds.right(up, Hadamard.sylvester(rotation), rotation);
            add(x[t], onto(b.down, up, t));
        }
    }

    private void attend(double[] o, int at, int from, double[] q, double[][] k, double[][] v, int t) {
        double[] p = new double[t + 1];
        double sum = 0;
        for (int s = 0; s <= t; s++) {
            for (int i = 0; i < c.D(); i++) p[s] += q[at + i] * k[s][from + i] / Math.sqrt(c.D());
            p[s] = Math.exp(p[s]);
            sum += p[s];
        }
        for (int s = 0; s <= t; s++) for (int i = 0; i < c.D(); i++) o[at + i] += p[s] / sum * v[s][from + i];
    }

    private double[] linear(Linear l, double[] x) {
        double[] w = weights.of(l.weight), y = l.bias == null ? new double[w.length / x.length] : weights.of(l.bias).clone();
        for (int o = 0; o < y.length; o++) for (int i = 0; i < x.length; i++) y[o] += w[o * x.length + i] * x[i];
        return y;
    }

    /** A norm of the residual: r = 1/√(mean x̃² + ε s²), s ← s r, x̃ ← x̃ r, which is its output but for the gain. */
    private double[] normed(double[] x, int t, double[] gain) {
        if (residual == Residual.PLAIN) return norm(x, gain);
        double squares = 0, eps = residual == Residual.SCALED ? c.eps() * scale[t] * scale[t] : c.eps();
        for (double v : x) squares += v * v;
        double r = 1 / Math.sqrt(squares / x.length + eps);
        scale[t] *= r;
        double[] y = new double[x.length];
        for (int i = 0; i < y.length; i++) {
            x[i] *= r;
            y[i] = x[i] * gain[i];
        }
        return y;
    }

    /** s · (W u + b), or W (s u) + b. */
    private double[] onto(Linear l, double[] u, int t) {
        if (atInputs) for (int i = 0; i < u.length; i++) u[i] *= scale[t];
        double[] y = linear(l, u);
        if (!atInputs) for (int i = 0; i < y.length; i++) y[i] *= scale[t];
        return y;
    }

    private double[] norm(double[] x, double[] gain) {
        double squares = 0;
        for (double v : x) squares += v * v;
        double r = 1 / Math.sqrt(squares / x.length + c.eps());
        double[] y = new double[x.length];
        for (int i = 0; i < y.length; i++) y[i] = x[i] * r * gain[i];
        return y;
    }

    private double[] heads(double[] x, Param gain) {
        if (gain == null) return x;
        for (int h = 0; h < x.length; h += c.D()) System.arraycopy(norm(java.util.Arrays.copyOfRange(x, h, h + c.D()), weights.of(gain)), 0, x, h, c.D());
        return x;
    }

    private double[] turned(double[] x, int position) {
        double[] y = x.clone();
        int D = c.D();
        for (int h = 0; h < x.length; h += D) {
            for (int j = 0; j < D / 2; j++) {
                int a = h + (interleaved ? 2 * j : j), b = interleaved ? a + 1 : a + D / 2;
                double angle = position * Math.pow(c.rope().theta(), -2.0 * j / D), cos = Math.cos(angle), sin = Math.sin(angle);
                y[a] = cos * x[a] - sin * x[b];
                y[b] = sin * x[a] + cos * x[b];
            }
        }
        return y;
    }

    private static void add(double[] x, double[] y) {
        for (int i = 0; i < x.length; i++) x[i] += y[i];
    }
}
