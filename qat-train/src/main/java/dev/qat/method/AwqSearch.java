package dev.qat.method;

import dev.qat.ops.Channels;
import java.util.List;

/**
 * AWQ's two searches (Lin et al., arXiv 2306.00978 §3.2 and its code): a scale per input channel, and a clip per group, each with
 * the least squared error of the outputs. With D = Ŵ − W that error is Σ over rows of d H dᵀ, H = Σ x xᵀ, so no input is kept.
 *
 * @param h (I, I)  @param pause runs every few seconds at the latest, and may throw
 */
record AwqSearch(double[] h, int cols, int bits, int group, Runnable pause) {
    private static final int RATIOS = 20, CLIPS = 10;

    /** s = mean|x|^r / √(max · min), the r of 0, 0.05 … 0.95 with the least error over all readers. */
    double[] scales(double[] means, List<double[]> readers, Channels columns) {
        double[] best = null;
        double least = Double.POSITIVE_INFINITY;
        for (int i = 0; i < RATIOS; i++) {
            double[] s = candidate(means, i / (double) RATIOS);
            double loss = 0;
            for (double[] w : readers) loss += loss(w, s, columns);
            if (loss < least) {
                least = loss;
                best = s;
            }
        }
        return best;
    }

    static double[] candidate(double[] means, double ratio) {
        double[] s = new double[means.length];
        double most = 0, least = Double.POSITIVE_INFINITY;
        for (int j = 0; j < s.length; j++) {
            s[j] = Math.max(Math.pow(means[j], ratio), 1e-4);
            most = Math.max(most, s[j]);
            least = Math.min(least, s[j]);
        }
        for (int j = 0; j < s.length; j++) s[j] /= Math.sqrt(most * least);
        return s;
    }

    /** Σ ‖x (Ŵ − W)ᵀ‖², Ŵ = Q(W · s) / s: 2 O I² operations. */
    double loss(double[] w, double[] s, Channels columns) {
        double[] rows = new double[w.length / cols];
        Pieces.parallel(rows.length, (long) cols * cols, pause, r -> {
            double[] row = new double[cols], out = new double[cols];
            for (int j = 0; j < cols; j++) row[j] = w[r * cols + j] * s[columns.of(j)];
            for (int g = 0; g < cols; g += group) {
                Range range = Range.minMax(row, g, group, bits);
                for (int j = g; j < g + group; j++) row[j] = (range.nearest(row[j]) - row[j]) / s[columns.of(j)];
            }
            rows[r] = product(row, 0, cols, out);
        });
        double sum = 0;
        for (double row : rows) sum += row;
        return sum;
    }

    /** d H dᵀ over the columns from … from + count. */
    private double product(double[] d, int from, int count, double[] scratch) {
        java.util.Arrays.fill(scratch, 0, count, 0);
        for (int i = 0; i < count; i++) {
            double v = d[i];
            if (v == 0) continue;
            int at = (from + i) * cols + from;
            for (int k = 0; k < count; k++) scratch[k] += v * h[at + k];
        }
        double sum = 0;
        for (int k = 0; k < count; k++) sum += scratch[k] * d[k];
        return sum;
    }

    /** W rounded, each group clamped to ±c first: the c of max|w| · (1 − i/20), i = 0 … 9, with the least error of the group's share of the outputs. */
    Solved clipped(double[] w, boolean clip) {
        Solved out = Solved.empty(w.length / cols, cols, group);
        Pieces.parallel(w.length / group, (long) CLIPS * group * group, pause, n -> {
            double[] d = new double[group], scratch = new double[group];
            int at = n * group, from = at % cols;
            double most = 0, lo = 0, hi = 0, least = Double.POSITIVE_INFINITY;
            for (int i = at; i < at + group; i++) {
                most = Math.max(most, Math.abs(w[i]));
                lo = Math.min(lo, w[i]);
                hi = Math.max(hi, w[i]);
            }
            for (int c = 0; c < (clip ? CLIPS : 1); c++) {
                double limit = most * (1 - c / 20.0);
                Range range = Range.of(Math.max(lo, -limit), Math.min(hi, limit), bits);
                for (int i = 0; i < group; i++) d[i] = range.nearest(Math.clamp(w[at + i], -limit, limit)) - w[at + i];
                double error = product(d, from, group, scratch);
                if (error >= least) continue;
                least = error;
                out.step()[n] = range.step();
                out.zero()[n] = range.zero();
                for (int i = 0; i < group; i++) out.values()[at + i] = range.nearest(Math.clamp(w[at + i], -limit, limit));
            }
        });
        return out;
    }

    /** The moments of inputs divided by s. */
    AwqSearch scaled(double[] s, Channels columns) {
        double[] scaled = new double[h.length];
        for (int i = 0; i < cols; i++) for (int j = 0; j < cols; j++) scaled[i * cols + j] = h[i * cols + j] / (s[columns.of(i)] * s[columns.of(j)]);
        return new AwqSearch(scaled, cols, bits, group, pause);
    }
}
