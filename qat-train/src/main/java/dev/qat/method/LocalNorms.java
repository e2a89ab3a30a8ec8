package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Channels;
import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * FPTQuant's local optimization of one block (arXiv 2506.04985 §3.2): the transforms with the least Σ over linears of
 * (mean |W̃|^p)^(1/p), W̃ the merged weight. Needs no data. All of T_k, T_v and T_u, their inverses included (the only official
 * code trains no more than the last transform of each linear, and so never T_k).
 *
 * <p>Free parameters: angles φ and log-scales of T_k, the matrices of T_v, log-scales of T_u; plain Adam, since a decay of
 * matrices and scales would pull them to where they have no inverse.
 */
final class LocalNorms {
    private static final double BETA1 = 0.9, BETA2 = 0.999, EPS = 1e-8;

    private final ModelConfig c;
    private final double p;
    private final double[] q, k, v, o, up, down;
    /** All parameters in one vector: φ, then log s of T_k, then the matrices, then log s of T_u; where each but the first begins. */
    private final double[] x;
    private final int turns, matrices, scales;

    /** The weights of a block as they are. Norms of its own on queries and keys leave T_k out. */
    LocalNorms(ModelConfig c, Merge weights, Block b, double p) {
        this(c, p, weights.of(b.q.weight), weights.of(b.k.weight), weights.of(b.v.weight), weights.of(b.o.weight), weights.of(b.up.weight), weights.of(b.down.weight));
    }

    LocalNorms(ModelConfig c, double p, double[]... w) {
        this.c = c;
        this.p = p;
        q = w[0];
        k = w[1];
        v = w[2];
        o = w[3];
        up = w[4];
        down = w[5];
        int pairs = c.K() * c.D() / 2;
        turns = pairs;
        matrices = 2 * pairs;
        scales = matrices + c.K() * c.D() * c.D();
        x = new double[scales + c.F()];
        for (int h = 0; h < c.K(); h++) for (int i = 0; i < c.D(); i++) x[matrices + h * c.D() * c.D() + i * c.D() + i] = 1;
    }

    /** Goes so many Adam steps; the loss before each.  @param pause runs before each and may throw */
    double[] train(int steps, double rate, Runnable pause) {
        double[] m = new double[x.length], s = new double[x.length], g = new double[x.length], losses = new double[steps];
        for (int t = 1; t <= steps; t++) {
            pause.run();
            Arrays.fill(g, 0);
            losses[t - 1] = loss(g);
            for (int i = 0; i < x.length; i++) {
                m[i] = BETA1 * m[i] + (1 - BETA1) * g[i];
                s[i] = BETA2 * s[i] + (1 - BETA2) * g[i] * g[i];
                x[i] -= rate * m[i] / (1 - Math.pow(BETA1, t)) / (Math.sqrt(s[i] / (1 - Math.pow(BETA2, t))) + EPS);
            }
        }
        return losses;
    }

    /** The parameters, for tests of the gradient. */
    double[] parameters() {
        return x;
    }

    /** Σ of the norms; their gradient is added to g. */
    double loss(double[] g) {
        return (c.qkNorm() ? 0 : keys(g)) + values(g) + upDown(g);
    }

    private double[] exp(int from, int to, int sign) {
        return Arrays.stream(x, from, to).map(t -> Math.exp(sign * t)).toArray();
    }

    private double[] angles() {
        return Arrays.copyOf(x, turns);
    }

    private double keys(double[] g) {
        return turned(k, c.K(), 1, 1, g) + turned(q, c.H(), c.H() / c.K(), -1, g);
    }

    /** The norm of a matrix under T (sign 1) or its inverse transpose (−1): dφ = Σ G · (J W̃), d log s = sign · Σ G · W̃. */
    private double turned(double[] w, int heads, int group, int sign, double[] g) {
        int D = c.D(), half = D / 2;
        double[] t = w.clone();
        Folds.turn(t, heads, D, group, angles(), exp(turns, matrices, sign));
        double[] d = new double[t.length];
        double loss = norm(t, d);
        int cols = w.length / (heads * D);
        for (int h = 0; h < heads; h++) {
            for (int j = 0; j < half; j++) {
                int n = h / group * half + j, a = (h * D + j) * cols, b = a + half * cols;
                for (int i = 0; i < cols; i++) {
                    g[n] += d[b + i] * t[a + i] - d[a + i] * t[b + i];
                    g[turns + n] += sign * (d[a + i] * t[a + i] + d[b + i] * t[b + i]);
                }
            }
        }
        return loss;
    }

    /** v ← Mᵀ v: dM = W Gᵀ;  o ← W N ᵀ, N = M⁻¹: dN = Gᵀ W, dM = −Nᵀ dN Nᵀ. */
    private double values(double[] g) {
        int D = c.D(), C = c.C(), H = c.H(), group = H / c.K();
        double[] tv = v.clone(), to = o.clone(), dv = new double[v.length], d = new double[o.length];
        double[][] inverse = new double[c.K()][];
        for (int h = 0; h < c.K(); h++) {
            double[] m = matrix(h), rows = Arrays.copyOfRange(v, h * D * C, (h + 1) * D * C);
            inverse[h] = Folds.inverse(m, D);
            Folds.left(rows, m, D);
            System.arraycopy(rows, 0, tv, h * D * C, rows.length);
        }
        IntStream.range(0, C).parallel().forEach(r -> {
            for (int h = 0; h < H; h++) {
                for (int j = 0; j < D; j++) {
                    double sum = 0;
                    for (int i = 0; i < D; i++) sum += o[(r * H + h) * D + i] * inverse[h / group][j * D + i];
                    to[(r * H + h) * D + j] = sum;
                }
            }
        });
        double loss = norm(tv, dv) + norm(to, d);
        IntStream.range(0, c.K()).parallel().forEach(h -> matrixBack(g, h, inverse[h], dv, d));
        return loss;
    }

    double[] matrix(int h) {
        int size = c.D() * c.D();
        return Arrays.copyOfRange(x, matrices + h * size, matrices + (h + 1) * size);
    }

    private void matrixBack(double[] g, int h, double[] inverse, double[] dv, double[] d) {
        int D = c.D(), C = c.C(), H = c.H(), group = H / c.K(), at = matrices + h * D * D;
        double[] dn = new double[D * D];
        for (int i = 0; i < D; i++) {
            for (int j = 0; j < D; j++) {
                double sum = 0;
                for (int r = 0; r < C; r++) sum += v[(h * D + i) * C + r] * dv[(h * D + j) * C + r];
                g[at + i * D + j] += sum;
            }
        }
        for (int head = h * group; head < (h + 1) * group; head++) {
            for (int r = 0; r < C; r++) {
                int row = (r * H + head) * D;
                for (int j = 0; j < D; j++) for (int i = 0; i < D; i++) dn[j * D + i] += d[row + j] * o[row + i];
            }
        }
        double[] t = Folds.transpose(inverse, D), dm = t.clone();
        Folds.right(dm, dn, D);
        Folds.right(dm, t, D);
        for (int i = 0; i < D * D; i++) g[at + i] -= dm[i];
    }

    private double upDown(double[] g) {
        int F = c.F(), C = c.C();
        double[] s = exp(scales, x.length, 1), tu = up.clone(), td = down.clone(), du = new double[tu.length], dd = new double[td.length];
        for (int i = 0; i < tu.length; i++) tu[i] *= s[i / C];
        for (int i = 0; i < td.length; i++) td[i] /= s[i % F];
        double loss = norm(tu, du) + norm(td, dd);
        for (int i = 0; i < tu.length; i++) g[scales + i / C] += du[i] * tu[i];
        for (int i = 0; i < td.length; i++) g[scales + i % F] -= dd[i] * td[i];
        return loss;
    }

    /** L = (mean |w|^p)^(1/p);  d = L^(1−p) |w|^(p−1) sign(w) / n */
    private double norm(double[] w, double[] d) {
        double most = 0, sum = 0;
        for (double e : w) most = Math.max(most, Math.abs(e));
        if (most == 0) return 0;
        for (double e : w) sum += power(Math.abs(e) / most, p);
        double loss = most * Math.pow(sum / w.length, 1 / p);
        for (int i = 0; i < w.length; i++) d[i] = power(Math.abs(w[i]) / loss, p - 1) * Math.signum(w[i]) / w.length;
        return loss;
    }

    private static double power(double v, double e) {
        return e == 4 ? v * v * v * v : e == 3 ? v * v * v : Math.pow(v, e);
    }

    /** Writes the transforms into the block's weights and biases. */
    void merge(Merge to, Block b) {
        if (!c.qkNorm()) Folds.keys(to, b, c, angles(), exp(turns, matrices, 1));
        Folds.values(to, b, c, IntStream.range(0, c.K()).mapToObj(this::matrix).toArray(double[][]::new));
        to.rows(b.up, exp(scales, x.length, 1));
        Folds.down(to, b, c.online().down()); // back, where its input is turned on the way
        to.columns(b.down, exp(scales, x.length, -1), Channels.each(c.F(), 1));
        Folds.down(to, b, c.online().down());
    }
}
