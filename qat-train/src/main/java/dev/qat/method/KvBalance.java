package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.train.Chain;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.apache.commons.math3.linear.Array2DRowRealMatrix;
import org.apache.commons.math3.linear.EigenDecomposition;
import org.apache.commons.math3.linear.RealMatrix;

/**
 * Makes keys and values easy to round with one scale per token, by the transforms FPTQuant merges (arXiv 2506.04985 §3, T_k and T_v),
 * in closed form from second moments instead of by descent on weights. What is computed stays.
 *
 * <p>A token's step grows with its largest channel and every channel then errs alike, so what counts is (size of what is rounded) ×
 * (weight of an error in any channel), and both halves of it move against each other under a transform:
 *
 * <pre>
 * values   M per head: y = Mᵀ v, o ← o M⁻ᵀ.   tr(Mᵀ Σ M) · tr(M⁻¹ G M⁻ᵀ), Σ = E v vᵀ, G = Σ oᵀo over the group's query heads, is least for
 *          M = Σ^−½ U Λ^¼ R with Σ^½ G Σ^½ = U Λ Uᵀ and R orthogonal: a Hadamard matrix, so that no channel stands out
 * keys     each pair that rope turns by φ = ½ atan2(a − b, 2c), after which both halves have the same moment (a, b, c: the pair's), and by
 *          s = (E q² / (E k²)^(p/2))^(1/(p+2)), least for the p-norm of the sizes in place of their sum
 * </pre>
 *
 * @param p      how much the largest channels count among keys, 2 for the sum of squares
 * @param count  windows to look at, at most
 */
public record KvBalance(double p, int count, int batch, Part windows) implements Stage {
    public static final KvBalance DEFAULTS = new KvBalance(4, 64, 8, Part.ALL);
    private static final double DAMP = 1e-6;

    public KvBalance {
        if (p < 2) throw Fail.usage("p = %s, expected a norm's exponent of at least 2", p);
        Positive.check("count", count);
        Positive.check("batch", batch);
    }

    @Override
    public void run(Run run) {
        run.reset();
        Model m = run.student();
        try (Chain chain = Chain.open(run, "kv-balance", run.windows(windows).first(count), batch); Watch.Job job = run.watch().job("kv-balance", m.blocks().size())) {
            for (Block b : m.blocks()) {
                block(run, chain, b);
                job.step(b.index + 1, "block %d".formatted(b.index));
            }
            chain.free();
        }
        m.keep();
    }

    private void block(Run run, Chain chain, Block b) {
        ModelConfig c = run.student().config;
        long width = b.k.outputs();
        Merge to = new Merge(run.backend().memory());
        try (Moments inputs = new Moments(run.backend(), b.q); Moments keys = new Moments(run.backend(), b.k.name, b.keySite, width);
                Moments values = new Moments(run.backend(), b.v.name, b.valueSite, width)) {
            chain.advance(b, List.of(inputs, keys, values));
            double tokens = (double) chain.batches * chain.x.rows();
            List<MemorySegment> found = run.once("kv-balance", b.index, 8L * width * (1 + c.D()), () -> run.planned() ? List.of() : Stream.concat(
                    (c.qkNorm() ? Stream.<double[]>empty() : keys(c, queries(run, to, b, mean(inputs, tokens)), mean(keys, tokens))),
                    values(to, c, b, mean(values, tokens), run.recipe().seed())).map(MemorySegment::ofArray).toList());
            if (run.planned()) return;
            List<double[]> all = found.stream().map(s -> s.toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED)).toList();
            if (!c.qkNorm()) Folds.keys(to, b, c, all.get(0), all.get(1));
            Folds.values(to, b, c, all.subList(all.size() - c.K(), all.size()).toArray(double[][]::new));
            to.store();
        }
    }

    private static double[] mean(Moments sums, double tokens) {
        double[] m = sums.values();
        for (int i = 0; i < m.length; i++) m[i] /= tokens;
        return m;
    }

    /** E q² of every channel; with a bias its square is added, as if inputs had no mean. */
    private static double[] queries(Run run, Merge to, Block b, double[] moments) {
        Linear q = b.q;
        double[] w = to.of(q.weight), bias = q.bias == null ? null : to.of(q.bias), all = new double[Math.toIntExact(q.outputs())];
        int C = Math.toIntExact(q.inputs());
        Pieces.parallel(all.length, (long) C * C, () -> run.pause("kv-balance", b.index), r -> {
            double sum = bias == null ? 0 : bias[r] * bias[r];
            for (int i = 0; i < C; i++) {
                double row = 0;
                for (int j = 0; j < C; j++) row += moments[i * C + j] * w[r * C + j];
                sum += row * w[r * C + i];
            }
            all[r] = sum;
        });
        return all;
    }

    /** φ and s of every pair.   queries: E q² (H·D)  moments: E k kᵀ (K·D, K·D) → (K, D/2), (K, D/2) */
    private Stream<double[]> keys(ModelConfig c, double[] queries, double[] moments) {
        int D = c.D(), K = c.K(), group = c.H() / K, half = D / 2, width = K * D;
        double[] phi = new double[K * half], s = new double[K * half];
        for (int n = 0; n < phi.length; n++) {
            int u = n / half * D + n % half, v = u + half;
            double a = moments[u * width + u], d = moments[v * width + v], q = 0;
            for (int g = 0; g < group; g++) q += queries[(n / half * group + g) * D + n % half] + queries[(n / half * group + g) * D + n % half + half];
            phi[n] = Math.atan2(a - d, 2 * moments[u * width + v]) / 2;
            s[n] = Math.pow(Math.max(q, Double.MIN_NORMAL) / Math.pow(Math.max(a + d, Double.MIN_NORMAL), p / 2), 1 / (p + 2));
        }
        return Stream.of(phi, s);
    }

    /** M of every head.   moments: E v vᵀ (K·D, K·D) → K times (D, D) */
    private static Stream<double[]> values(Merge to, ModelConfig c, Block b, double[] moments, long seed) {
        int D = c.D(), K = c.K(), group = c.H() / K, width = K * D;
        double[] o = to.of(b.o.weight);
        double[][] m = new double[K][];
        for (int h = 0; h < K; h++) {
            double[] sigma = new double[D * D], g = new double[D * D];
            for (int i = 0; i < D; i++) for (int j = 0; j < D; j++) sigma[i * D + j] = moments[(h * D + i) * width + h * D + j];
            for (int q = h * group; q < (h + 1) * group; q++) {
                for (int r = 0; r < c.C(); r++) {
                    int row = (r * c.H() + q) * D;
                    for (int i = 0; i < D; i++) for (int j = 0; j < D; j++) g[i * D + j] += o[row + i] * o[row + j];
                }
            }
            m[h] = matrix(sigma, g, Hadamard.randomized(D, seed, 1 + b.index), D);
        }
        return Arrays.stream(m);
    }

    /** Σ^−½ U Λ^¼ R, where Σ^½ G Σ^½ = U Λ Uᵀ */
    static double[] matrix(double[] sigma, double[] g, double[] rotation, int D) {
        RealMatrix root = power(damped(sigma, D), 0.5), inverse = power(damped(sigma, D), -0.5);
        EigenDecomposition e = new EigenDecomposition(symmetric(root.multiply(damped(g, D)).multiply(root)));
        RealMatrix quarter = new Array2DRowRealMatrix(D, D);
        double[] lambda = e.getRealEigenvalues();
        double least = DAMP * Arrays.stream(lambda).max().orElseThrow();
        for (int i = 0; i < D; i++) quarter.setEntry(i, i, Math.pow(Math.max(lambda[i], least), 0.25));
        RealMatrix m = inverse.multiply(e.getV()).multiply(quarter);
        double[] out = Arrays.stream(m.getData()).flatMapToDouble(Arrays::stream).toArray();
        Folds.right(out, rotation, D);
        return out;
    }

    private static RealMatrix damped(double[] a, int n) {
        RealMatrix m = new Array2DRowRealMatrix(n, n);
        double mean = 0;
        for (int i = 0; i < n; i++) mean += a[i * n + i] / n;
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) m.setEntry(i, j, a[i * n + j] + (i == j ? DAMP * mean + Double.MIN_NORMAL : 0));
        return m;
    }

    private static RealMatrix symmetric(RealMatrix m) {
        return m.add(m.transpose()).scalarMultiply(0.5);
    }

    private static RealMatrix power(RealMatrix m, double exponent) {
        EigenDecomposition e = new EigenDecomposition(symmetric(m));
        RealMatrix d = new Array2DRowRealMatrix(m.getRowDimension(), m.getRowDimension());
        double[] lambda = e.getRealEigenvalues();
        double least = DAMP * 1e-3 * Arrays.stream(lambda).max().orElseThrow();
        for (int i = 0; i < lambda.length; i++) d.setEntry(i, i, Math.pow(Math.max(lambda[i], least), exponent));
        return e.getV().multiply(d).multiply(e.getV().transpose());
    }
}
