package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;

/** What a head and its loss come to, one row of logits at a time in doubles; the scratch that faster backends need stays untouched. */
final class ReferenceLosses {
    /** The loss of one row and, in {@code slope}, its gradient by the row's logits. */
    private interface RowLoss {
        double of(double[] slope, double[] logits, long n, int target);
    }

    private ReferenceLosses() {}

    static void crossEntropy(Tensor loss, Grad dx, Grad dw, Tensor x, Tensor w, Tensor targets, float weight) {
        overRows(loss, dx, dw, x, w, targets, weight, (slope, logits, n, target) -> hard(slope, logits, target, 1));
    }

    static void distill(Tensor loss, Grad dx, Grad dw, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets, Divergence d, float weight) {
        overRows(loss, dx, dw, x, w, targets, weight, (slope, logits, n, target) -> {
            double[] ls = logSoftmax(logits, d.temperature()), lt = logSoftmax(logits(tx, n, tw), d.temperature());
            double soft = d.jensenShannon() ? jensenShannon(slope, ls, lt, d.temperature()) : mixed(slope, ls, lt, d.reverse(), d.temperature());
            return d.hard() == 0 ? soft : soft + hard(slope, logits, target, d.hard());
        });
    }

    /** Rows whose target is negative have no loss and no gradient. */
    private static void overRows(Tensor loss, Grad dx, Grad dw, Tensor x, Tensor w, Tensor targets, float weight, RowLoss row) {
        int V = Math.toIntExact(w.rows()), C = Math.toIntExact(w.cols());
        double[] headSlope = new double[dw.wanted() ? Math.multiplyExact(V, C) : 0];
        for (long n = 0; n < x.rows(); n++) {
            int target = HostMemory.getInt(targets, n);
            Fail.unless(target < V, "target %d at %d, but the vocabulary has %d", target, n, V);
            double[] slope = new double[V];
            put(loss, n, target < 0 ? 0 : row.of(slope, logits(x, n, w), n, target));
            for (int c = 0; dx.wanted() && c < C; c++) {
                double sum = 0;
                for (int v = 0; target >= 0 && v < V; v++) sum += slope[v] * get(w, (long) v * C + c);
                give(dx, n * C + c, weight * sum);
            }
            for (int i = 0; target >= 0 && i < headSlope.length; i++) headSlope[i] += slope[i / C] * get(x, n * C + i % C);
        }
        for (int i = 0; i < headSlope.length; i++) give(dw, i, weight * headSlope[i]);
    }

    /** share · −log S[target];  slope_k += share · (S_k − 1[k = target]) */
    private static double hard(double[] slope, double[] logits, int target, double share) {
        double[] ls = logSoftmax(logits, 1);
        for (int k = 0; k < ls.length; k++) slope[k] += share * (Math.exp(ls[k]) - (k == target ? 1 : 0));
        return -share * ls[target];
    }

    /** τ² · (β·R + (1−β)·F);  slope_k = τ · (β·S_k·(log S_k/T_k − R) + (1−β)·(S_k − T_k)) */
    private static double mixed(double[] slope, double[] ls, double[] lt, double beta, double tau) {
        double forward = 0, reverse = 0;
        for (int k = 0; k < ls.length; k++) {
            forward += Math.exp(lt[k]) * (lt[k] - ls[k]);
            reverse += Math.exp(ls[k]) * (ls[k] - lt[k]);
        }
        for (int k = 0; k < ls.length; k++) {
            double s = Math.exp(ls[k]), t = Math.exp(lt[k]);
            slope[k] = tau * (beta * s * (ls[k] - lt[k] - reverse) + (1 - beta) * (s - t));
        }
        return tau * tau * (beta * reverse + (1 - beta) * forward);
    }

    /**
     * τ² · ½ (KL(T‖M) + KL(S‖M)), M = ½ (S + T);  slope_k = τ/2 · S_k · (log S_k/M_k − KL(S‖M)).
     * What M itself contributes to the slope is −½ Σ dM · (T + S)/M = −Σ dM = 0.
     */
    private static double jensenShannon(double[] slope, double[] ls, double[] lt, double tau) {
        double student = 0, teacher = 0;
        double[] lm = new double[ls.length];
        for (int k = 0; k < ls.length; k++) {
            double most = Math.max(ls[k], lt[k]);
            lm[k] = most + Math.log(0.5 * (Math.exp(ls[k] - most) + Math.exp(lt[k] - most)));
            student += Math.exp(ls[k]) * (ls[k] - lm[k]);
            teacher += Math.exp(lt[k]) * (lt[k] - lm[k]);
        }
        for (int k = 0; k < ls.length; k++) slope[k] = tau / 2 * Math.exp(ls[k]) * (ls[k] - lm[k] - student);
        return tau * tau * (student + teacher) / 2;
    }

    /** A negative target has no −log S, which is 0 then; of equal logits the first is preferred. */
    static void compare(Tensor stats, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets) {
        for (long n = 0; n < x.rows(); n++) {
            int target = HostMemory.getInt(targets, n);
            double[] s = logits(x, n, w), t = logits(tx, n, tw), ls = logSoftmax(s, 1), lt = logSoftmax(t, 1);
            double divergence = 0;
            for (int k = 0; k < ls.length; k++) divergence += Math.exp(lt[k]) * (lt[k] - ls[k]);
            put(stats, 3 * n, target < 0 ? 0 : -ls[target]);
            put(stats, 3 * n + 1, divergence);
            put(stats, 3 * n + 2, largest(s) == largest(t) ? 1 : 0);
        }
    }

    /** Row n of x · wᵀ. */
    private static double[] logits(Tensor x, long n, Tensor w) {
        int V = Math.toIntExact(w.rows()), C = Math.toIntExact(w.cols());
        double[] logits = new double[V];
        for (int v = 0; v < V; v++) {
            for (int c = 0; c < C; c++) logits[v] += (double) get(x, n * C + c) * get(w, (long) v * C + c);
        }
        return logits;
    }

    /** log softmax(logits / τ) */
    private static double[] logSoftmax(double[] logits, double tau) {
        double most = Double.NEGATIVE_INFINITY, sum = 0;
        for (double l : logits) most = Math.max(most, l / tau);
        for (double l : logits) sum += Math.exp(l / tau - most);
        double logSum = most + Math.log(sum);
        double[] out = new double[logits.length];
        for (int k = 0; k < out.length; k++) out[k] = logits[k] / tau - logSum;
        return out;
    }

    private static int largest(double[] a) {
        int best = 0;
        for (int k = 1; k < a.length; k++) if (a[k] > a[best]) best = k;
        return best;
    }
}
