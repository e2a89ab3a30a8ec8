package dev.qat.method;

import dev.qat.cpu.Doubles;
import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.commons.math3.linear.Array2DRowRealMatrix;
import org.apache.commons.math3.linear.LUDecomposition;
import org.apache.commons.math3.linear.RealMatrix;
import org.apache.commons.math3.linear.SingularMatrixException;

/**
 * Changes of a model's weights that leave what it computes as it is, made in double precision (FPTQuant, arXiv 2506.04985 §3;
 * QuaRot, arXiv 2404.00456). A transform and its inverse come from one argument, so that they cannot part.
 *
 * <pre>
 * gains      γ into the columns of what reads it, γ ← 1: before any rotation of the residual
 * residual   T_r:  E ← E Q;  q, k, v, gate, up, head ← W Q;  o, down ← Qᵀ W, b ← Qᵀ b
 * keys       T_k:  k ← T k, q ← T⁻ᵀ q before rope, T = s_j · Rot(φ_j) on each pair (j, j + D/2) that rope turns
 * values     T_v:  v ← Mᵀ v per key/value head, o ← W M⁻ᵀ for every query head of its group
 * down       T_d:  down ← W H per block of channels; its input must pass the same H, on the way
 * across     o ← W (H ⊗ I) per block of heads; likewise
 * </pre>
 * T_u, the scale between up and down, is a {@link ScalePair}.
 */
final class Folds {
    /** Rows that are turned together. */
    private static final int SOME = 8192;

    private Folds() {}

    /** γ of every norm into the linears that read it. The head must not be the embedding. */
    static void gains(Merge to, Model m) {
        Fail.unless(m.head != m.embedding, "gains cannot be folded into a head that is the embedding as well");
        for (Block b : m.blocks()) {
            gain(to, b.norm1, List.of(b.q.weight, b.k.weight, b.v.weight));
            gain(to, b.norm2, List.of(b.gate.weight, b.up.weight));
        }
        gain(to, m.norm, List.of(m.head));
    }

    private static void gain(Merge to, Param gain, List<Param> readers) {
        double[] g = to.of(gain);
        for (Param p : readers) {
            double[] w = to.of(p);
            for (int i = 0; i < w.length; i++) w[i] *= g[i % g.length];
        }
        Arrays.fill(g, 1);
    }

    /** Rotates the residual stream.   q (C, C), orthogonal */
    static void residual(Merge to, Model m, double[] q) {
        int C = m.config.C();
        right(to.of(m.embedding), q, C);
        right(to.of(m.head), q, C);
        for (Block b : m.blocks()) {
            for (Linear l : List.of(b.q, b.k, b.v, b.gate, b.up)) right(to.of(l.weight), q, C);
            for (Linear l : List.of(b.o, b.down)) {
                left(to.of(l.weight), q, C);
                if (l.bias != null) left(to.of(l.bias), q, C);
            }
        }
    }

    /** Every row of n elements times q (n, n), in place. */
    static void right(double[] w, double[] q, int n) {
        int rows = w.length / n;
        for (int from = 0; from < rows; from += SOME) { // an embedding is large enough without copies of it
            int some = Math.min(SOME, rows - from);
            double[] turned = Doubles.product(Arrays.copyOfRange(w, from * n, (from + some) * n), false, q, false, some, n, n);
            System.arraycopy(turned, 0, w, from * n, turned.length);
        }
    }

    /** qᵀ w in place, w of n rows. */
    static void left(double[] w, double[] q, int n) {
        System.arraycopy(Doubles.product(q, true, w, false, n, n, w.length / n), 0, w, 0, w.length);
    }

    /** T_k on keys, its inverse transpose on queries.   phi, s (K, D/2), s &gt; 0 */
    static void keys(Merge to, Block b, ModelConfig c, double[] phi, double[] s) {
        Fail.unless(!c.qkNorm(), "block %d has norms of its own on queries and keys: a rotation before them cannot be folded", b.index);
        double[] inverse = Arrays.stream(s).map(v -> 1 / v).toArray();
        for (Param p : b.k.bias == null ? List.of(b.k.weight) : List.of(b.k.weight, b.k.bias)) turn(to.of(p), c.K(), c.D(), 1, phi, s);
        for (Param p : b.q.bias == null ? List.of(b.q.weight) : List.of(b.q.weight, b.q.bias)) turn(to.of(p), c.H(), c.D(), c.H() / c.K(), phi, inverse);
    }

    /** Pairs of rows (j, j + D/2) of every head: turned by φ and scaled; heads in groups of {@code group} share their angles. */
    static void turn(double[] w, int heads, int D, int group, double[] phi, double[] s) {
        int cols = w.length / (heads * D), half = D / 2;
        for (int h = 0; h < heads; h++) {
            for (int j = 0; j < half; j++) {
                int n = h / group * half + j, a = (h * D + j) * cols, b = a + half * cols;
                double cos = s[n] * Math.cos(phi[n]), sin = s[n] * Math.sin(phi[n]);
                for (int i = 0; i < cols; i++) {
                    double u = w[a + i], v = w[b + i];
                    w[a + i] = cos * u - sin * v;
                    w[b + i] = sin * u + cos * v;
                }
            }
        }
    }

    /** What of T_k is left where queries and keys have norms: scales of pairs, the same for all heads, in the norms' gains.   s (D/2) */
    static void keyGains(Merge to, Block b, double[] s) {
        double[] k = to.of(b.kNorm), q = to.of(b.qNorm);
        for (int i = 0; i < k.length; i++) {
            k[i] *= s[i % s.length];
            q[i] /= s[i % s.length];
        }
    }

    /** T_v.   m: per key/value head (D, D), invertible */
    static void values(Merge to, Block b, ModelConfig c, double[][] m) {
        across(to, b, c, c.online().across()); // back, where heads are turned on their way
        int D = c.D(), C = c.C(), group = c.H() / c.K();
        double[] v = to.of(b.v.weight), bias = b.v.bias == null ? null : to.of(b.v.bias), o = to.of(b.o.weight);
        for (int k = 0; k < c.K(); k++) {
            head(v, m[k], k, D, c.K());
            if (bias != null) head(bias, m[k], k, D, c.K());
            double[] inverse = transpose(inverse(m[k], D), D);
            for (int h = k * group; h < (k + 1) * group; h++) {
                double[] columns = Doubles.block(o, c.H() * D, 0, h * D, C, D);
                right(columns, inverse, D);
                for (int r = 0; r < C; r++) System.arraycopy(columns, r * D, o, (r * c.H() + h) * D, D);
            }
        }
        across(to, b, c, c.online().across());
    }

    /** Mᵀ times the rows of head h of K. */
    private static void head(double[] w, double[] m, int h, int D, int K) {
        int size = w.length / K;
        double[] rows = Arrays.copyOfRange(w, h * size, (h + 1) * size);
        left(rows, m, D);
        System.arraycopy(rows, 0, w, h * size, size);
    }

    static double[] transpose(double[] m, int n) {
        double[] t = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) t[j * n + i] = m[i * n + j];
        return t;
    }

    /** m⁻¹; one that has none is refused. */
    static double[] inverse(double[] m, int n) {
        RealMatrix a = new Array2DRowRealMatrix(n, n);
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) a.setEntry(i, j, m[i * n + j]);
        try {
            double[][] inverse = new LUDecomposition(a).getSolver().getInverse().getData();
            return Arrays.stream(inverse).flatMapToDouble(Arrays::stream).toArray();
        } catch (SingularMatrixException e) {
            throw Fail.numeric("a transform of %d x %d has no inverse any more. Nothing was written. Lower the rate of its stage.", n, n);
        }
    }

    /** T_d's half in the weight; the other is a rotation of down's input.  @param size channels turned together; 0 for none */
    static void down(Merge to, Block b, int size) {
        if (size > 0) turnBlocks(to.of(b.down.weight), size, 1);
    }

    /** The half in o's weight of a rotation across heads; the other is one of its input.  @param size heads turned together; 0 for none */
    static void across(Merge to, Block b, ModelConfig c, int size) {
        if (size > 0) turnBlocks(to.of(b.o.weight), size, c.D());
    }

    /** Every {@code size} channels that lie {@code apart} times the Sylvester-Hadamard matrix over √size, by log₂ size rounds of (a, b) → (a + b, a − b). */
    static void turnBlocks(double[] w, int size, int apart) {
        int span = size * apart;
        double norm = 1 / Math.sqrt(size);
        IntStream.range(0, w.length / span).parallel().forEach(n -> {
            for (int h = apart; h < span; h *= 2) {
                for (int i = n * span; i < (n + 1) * span; i++) {
                    if ((i - n * span) / h % 2 == 1) continue;
                    double a = w[i], b = w[i + h];
                    w[i] = a + b;
                    w[i + h] = a - b;
                }
            }
            for (int i = n * span; i < (n + 1) * span; i++) w[i] *= norm;
        });
    }
}
