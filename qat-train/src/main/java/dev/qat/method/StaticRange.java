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
        return step(threshold(x, from, count, bits, p), bits);
    }

    /** The step for all of x, on all cores.  @param pause runs every few seconds at the latest, and may throw */
    static float step(float[] x, int bits, double p, Runnable pause) {
        double most = most(x, 0, x.length);
        double[] errors = new double[POINTS];
        Pieces.parallel(POINTS, operations(x.length) / POINTS, pause, k -> errors[k] = error(x, 0, x.length, bits, p, most * (k + 1) / POINTS));
        return step(best(most, errors), bits);
    }

    private static float step(double threshold, int bits) {
        return (float) Math.max(threshold / ((1 << bits - 1) - 1), LEAST);
    }

    /** c */
    static double threshold(float[] x, int from, int count, int bits, double p) {
        double most = most(x, from, count);
        double[] errors = new double[POINTS];
        for (int k = 0; k < POINTS; k++) errors[k] = error(x, from, count, bits, p, most * (k + 1) / POINTS);
        return best(most, errors);
    }

    /** What the search for the step of so many numbers takes, about. */
    static long operations(long count) {
        return 8 * POINTS * count;
    }

    private static double most(float[] x, int from, int count) {
        double most = 0;
        for (int i = from; i < from + count; i++) most = Math.max(most, Math.abs(x[i]));
        return most;
    }

    /** The c with the least error, the smallest of them; 0 where no error is a number. */
    private static double best(double most, double[] errors) {
        double best = 0, least = Double.POSITIVE_INFINITY;
        for (int k = 0; k < POINTS; k++) {
            if (!(errors[k] < least)) continue;
            least = errors[k];
            best = most * (k + 1) / POINTS;
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
