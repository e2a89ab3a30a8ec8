package dev.qat.method;

/**
 * The step of a static symmetric quantizer: x̂ = clamp(rint(x/s), −2^(b−1), 2^(b−1) − 1) · s with s = c/(2^(b−1) − 1), and the c of
 * max|x| · {0.01, 0.02 … 1} with the least Σ |x − x̂|^p. Small p clips more, large p spares outliers.
 */
final class StaticRange {
    private static final int POINTS = 100;
    /** Below this a step would be taken for it where codes are stored. */
    private static final float LEAST = 1e-4f;

    private StaticRange() {}

    /** The step for x[from .. from + count). */
    static float step(float[] x, int from, int count, int bits, double p) {
        int top = (1 << bits - 1) - 1;
        return (float) Math.max(threshold(x, from, count, bits, p) / top, LEAST);
    }

    /** c */
    static double threshold(float[] x, int from, int count, int bits, double p) {
        double most = 0, best = 0, least = Double.POSITIVE_INFINITY;
        for (int i = from; i < from + count; i++) most = Math.max(most, Math.abs(x[i]));
        for (int k = 1; k <= POINTS; k++) {
            double c = most * k / POINTS, error = error(x, from, count, bits, p, c);
            if (error < least) {
                least = error;
                best = c;
            }
        }
        return best;
    }

    /** Σ |x − x̂|^p */
    static double error(float[] x, int from, int count, int bits, double p, double c) {
        int top = (1 << bits - 1) - 1;
        double s = c / top, sum = 0;
        for (int i = from; i < from + count; i++) {
            double d = Math.abs(x[i] - Math.clamp(Math.rint(x[i] / s), -top - 1, top) * s);
            sum += p == 2 ? d * d : p == 3 ? d * d * d : p == 4 ? d * d * d * d : Math.pow(d, p);
        }
        return sum;
    }
}
