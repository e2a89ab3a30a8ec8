package dev.qat.eval;

import dev.qat.tensor.Fail;
import org.apache.commons.math3.distribution.TDistribution;

/** How sure a measurement is: standard errors, and the paired test that tells a difference from noise. */
public final class Statistics {
    /**
     * How much more one model loses than another on the same windows.
     *
     * @param nll    mean difference, nats per token  @param stderr its standard error
     * @param t      nll / stderr  @param p two-sided probability of such a t where there is no difference
     */
    public record Difference(double nll, double stderr, double t, double p) {}

    private Statistics() {}

    /**
     * Standard error of Σ sums / Σ counts, each (sum, count) one independent draw: √(n/(n−1) · Σ (sum − mean · count)²) / Σ counts
     * (ratio estimator, Cochran 1977 §6.4). With equal counts it is s/√n over the windows' means. NaN for fewer than 2 draws.
     */
    public static double error(double[] sums, int[] counts) {
        double sum = 0, count = 0, squares = 0;
        int n = sums.length;
        for (int i = 0; i < n; i++) {
            sum += sums[i];
            count += counts[i];
        }
        for (int i = 0; i < n; i++) squares += Math.pow(sums[i] - sum / count * counts[i], 2);
        return n < 2 ? Double.NaN : Math.sqrt(squares * n / (n - 1)) / count;
    }

    /** Standard error of a share, √(p (1 − p) / (n − 1)), as lm-evaluation-harness prints it; NaN for fewer than 2 items. */
    public static double error(double share, int n) {
        return n < 2 ? Double.NaN : Math.sqrt(share * (1 - share) / (n - 1));
    }

    /** a − b, window by window: Student's paired t-test with n − 1 degrees of freedom, on the ratio estimator. */
    public static Difference paired(Perplexity a, Perplexity b) {
        Fail.unless(java.util.Arrays.equals(a.counts(), b.counts()), "two models are compared on different windows: %d and %d tokens", a.tokens(), b.tokens());
        double[] d = new double[a.sums().length];
        for (int i = 0; i < d.length; i++) d[i] = a.sums()[i] - b.sums()[i];
        double mean = a.nll() - b.nll(), error = error(d, a.counts());
        // every window differs by the same amount (often none): no noise to tell it from
        if (!(error > 0)) return new Difference(mean, error, Double.NaN, mean == 0 ? 1 : Double.NaN);
        double t = mean / error;
        return new Difference(mean, error, t, 2 * new TDistribution(d.length - 1).cumulativeProbability(-Math.abs(t)));
    }
}
