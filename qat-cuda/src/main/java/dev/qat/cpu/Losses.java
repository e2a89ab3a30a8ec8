package dev.qat.cpu;

import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.getInt;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.of;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;
import static dev.qat.cpu.Lanes.zero;

/** Head and loss in chunks of rows: logits, loss, their gradient in place, and the products back, chunk by chunk. */
final class Losses {
    private final Threads team;
    private final Products products;
    private final Moves moves;

    Losses(Threads team, Products products, Moves moves) {
        this.team = team;
        this.products = products;
        this.moves = moves;
    }

    /** What turns a row of logits into its loss and, in place, into weight · dloss/dlogits. */
    @FunctionalInterface
    private interface Row {
        float loss(long logits, long tlogits, int target);
    }

    void crossEntropy(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor x, Tensor w, Tensor targets, float weight) {
        long v = w.rows();
        boolean back = dx.wanted() || dw.wanted();
        chunks(loss, dx, dw, logits, null, x, w, null, null, targets, (s, ignored, target) -> {
            if (target < 0) return silent(s, v);
            float lse = logSumExp(s, v, 1);
            float l = lse - get(s + 4L * target);
            if (back) {
                expRow(s, false, s, lse, weight, v);
                put(s + 4L * target, get(s + 4L * target) - weight);
            }
            return l;
        });
    }

    void distill(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw,
                 Tensor targets, Divergence d, float weight) {
        long v = w.rows();
        chunks(loss, dx, dw, logits, tlogits, x, w, tx, tw, targets, (s, t, target) ->
                target < 0 ? silent(s, v) : diverge(s, t, target, v, d, weight));
    }

    /** A row that does not count. */
    private static float silent(long s, long v) {
        Moves.fillRow(s, 0, v);
        return 0;
    }

    private void chunks(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw,
                        Tensor targets, Row row) {
        long n = x.rows(), v = w.rows(), chunk = logits.rows();
        for (long from = 0; from < n; from += chunk) {
            long rows = Math.min(chunk, n - from), first = from;
            Tensor s = logits.rows(0, rows), part = x.rows(from, rows);
            products.linear(s, part, w, null, null);
            if (tx != null) products.linear(tlogits.rows(0, rows), tx.rows(from, rows), tw, null, null);
            long t = tx == null ? 0 : tlogits.address;
            team.each(rows, 1, (id, a, b) -> {
                for (long r = a; r < b; r++) {
                    put(loss.address + 4 * (first + r), row.loss(s.address + 4 * r * v, t + 4 * r * v, getInt(targets.address + 4 * (first + r))));
                }
            });
            if (dx.wanted()) products.inputGradient(new Grad(dx.to().rows(from, rows), dx.add()), s, w);
            if (dw.wanted()) products.weightGradient(new Grad(dw.to(), dw.add() || from > 0), s, part);
        }
    }

    /** log Σ exp of inv · x */
    private static float logSumExp(long x, long v, float inv) {
        float max = Attention.maxOf(x, v) * inv;
        FloatVector sum = zero();
        for (long i = 0; i < v; i += L) {
            VectorMask<Float> k = tail(v - i);
            sum = sum.add(zero().blend(Lanes.exp(load(x + 4 * i, k).mul(inv).sub(max)), k));
        }
        return (float) (max + Math.log(Lanes.sum(sum)));
    }

    /** y (+)= a · exp(s − lse) */
    private static void expRow(long y, boolean add, long s, float lse, float a, long v) {
        for (long i = 0; i < v; i += L) {
            VectorMask<Float> k = tail(v - i);
            FloatVector e = Lanes.exp(load(s + 4 * i, k).sub(lse)).mul(a);
            store(y + 4 * i, add ? e.add(load(y + 4 * i, k)) : e, k);
        }
    }

    /** The divergence of one row; s becomes weight · its gradient, t what s was. */
    private static float diverge(long s, long t, int target, long v, Divergence d, float weight) {
        float tau = d.temperature(), inv = 1 / tau;
        float ls = logSumExp(s, v, inv), lt = logSumExp(t, v, inv);
        float hardLse = tau == 1 ? ls : d.hard() > 0 ? logSumExp(s, v, 1) : 0, hardLogit = get(s + 4L * target);
        double soft;
        if (d.jensenShannon()) {
            double[] sums = mixedSums(s, t, v, inv, ls, lt);
            soft = 0.5 * (sums[0] + sums[1]);
            gradientRow(s, t, v, d, ls, lt, (float) sums[1], weight);
        } else if (d.reverse() > 0) {
            double reverse = kl(s, t, v, inv, ls, lt, false);
            soft = d.reverse() * reverse + (1 - d.reverse()) * kl(t, s, v, inv, lt, ls, false);
            gradientRow(s, t, v, d, ls, lt, (float) reverse, weight);
        } else {
            soft = kl(t, s, v, inv, lt, ls, true);
            forwardRow(s, t, v, inv, ls, tau * weight);
        }
        if (d.hard() == 0) return (float) (tau * tau * soft);
        expRow(s, true, t, hardLse, weight * d.hard(), v);
        put(s + 4L * target, get(s + 4L * target) - weight * d.hard());
        return (float) (tau * tau * soft + d.hard() * (hardLse - hardLogit));
    }

    /** KL(P‖Q) of two rows of logits with their log Σ exp; p becomes P where {@code keep}. */
    private static double kl(long p, long q, long v, float inv, float lp, float lq, boolean keep) {
        FloatVector sum = zero();
        for (long i = 0; i < v; i += L) {
            VectorMask<Float> k = tail(v - i);
            FloatVector a = load(p + 4 * i, k).mul(inv).sub(lp), e = zero().blend(Lanes.exp(a), k);
            sum = e.fma(a.sub(load(q + 4 * i, k).mul(inv).sub(lq)), sum);
            if (keep) store(p + 4 * i, e, k);
        }
        return Lanes.sum(sum);
    }

    /** KL(T‖M), KL(S‖M) to the mean M of both. */
    private static double[] mixedSums(long s, long t, long v, float inv, float ls, float lt) {
        double tm = 0, sm = 0;
        for (long i = 0; i < v; i += L) {
            VectorMask<Float> k = tail(v - i);
            FloatVector a = load(s + 4 * i, k).mul(inv).sub(ls), b = load(t + 4 * i, k).mul(inv).sub(lt), ps = Lanes.exp(a), pt = Lanes.exp(b);
            for (int j = 0; j < L && i + j < v; j++) {
                double p = ps.lane(j), q = pt.lane(j), m = Math.log(0.5 * (p + q));
                tm += q == 0 ? 0 : q * (b.lane(j) - m);
                sm += p == 0 ? 0 : p * (a.lane(j) - m);
            }
        }
        return new double[] {tm, sm};
    }

    /** Of KL(T‖S): s = slope · (S − T), where t holds T; t becomes s. */
    private static void forwardRow(long s, long t, long v, float inv, float ls, float slope) {
        for (long i = 0; i < v; i += L) {
            VectorMask<Float> k = tail(v - i);
            FloatVector x = load(s + 4 * i, k), g = Lanes.exp(x.mul(inv).sub(ls)).sub(load(t + 4 * i, k));
            store(t + 4 * i, x, k);
            store(s + 4 * i, g.mul(slope), k);
        }
    }

    /** Of the others: s = weight · τ · dsoft/dlogit; t becomes s. */
    private static void gradientRow(long s, long t, long v, Divergence d, float ls, float lt, float mean, float weight) {
        float inv = 1 / d.temperature(), slope = d.temperature() * weight;
        for (long i = 0; i < v; i += L) {
            VectorMask<Float> k = tail(v - i);
            FloatVector x = load(s + 4 * i, k), a = x.mul(inv).sub(ls), b = load(t + 4 * i, k).mul(inv).sub(lt);
            FloatVector ps = Lanes.exp(a), pt = Lanes.exp(b), g;
            if (d.jensenShannon()) g = ps.mul(a.sub(log(ps.add(pt).mul(0.5f))).sub(mean)).mul(0.5f);
            else g = ps.mul(a.sub(b).sub(mean)).mul(d.reverse()).add(ps.sub(pt).mul(1 - d.reverse()));
            store(t + 4 * i, x, k);
            store(s + 4 * i, g.mul(slope), k);
        }
    }

    /** Natural logarithm lane by lane; only the Jensen-Shannon loss takes it. */
    private static FloatVector log(FloatVector x) {
        float[] a = x.toArray();
        for (int i = 0; i < a.length; i++) a[i] = (float) Math.log(a[i]);
        return FloatVector.fromArray(Lanes.S, a, 0);
    }

    void compare(Tensor stats, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets) {
        long v = w.rows();
        for (long from = 0; from < x.rows(); from += logits.rows()) {
            long rows = Math.min(logits.rows(), x.rows() - from), first = from;
            Tensor s = logits.rows(0, rows), t = tlogits.rows(0, rows);
            products.linear(s, x.rows(from, rows), w, null, null);
            products.linear(t, tx.rows(from, rows), tw, null, null);
            team.each(rows, 1, (id, a, b) -> {
                for (long r = a; r < b; r++) {
                    long sr = s.address + 4 * r * v, tr = t.address + 4 * r * v, out = stats.address + 12 * (first + r);
                    int target = getInt(targets.address + 4 * (first + r));
                    float ls = logSumExp(sr, v, 1), lt = logSumExp(tr, v, 1);
                    put(out, target < 0 ? 0 : ls - get(sr + 4L * target));
                    put(out + 4, (float) kl(tr, sr, v, 1, lt, ls, false));
                    put(out + 8, argmax(sr, v) == argmax(tr, v) ? 1 : 0);
                }
            });
        }
    }

    /** The first of the largest. */
    static int argmax(long s, long v) {
        int best = 0;
        for (int i = 1; i < v; i++) if (get(s + 4L * i) > get(s + 4L * best)) best = i;
        return best;
    }

    void mse(Tensor loss, Grad dx, Tensor x, Tensor target) {
        float slope = 2f / x.size();
        double sum = moves.total(x.size(), (from, n) -> {
            FloatVector s = zero();
            for (long i = from; i < from + n; i += L) {
                VectorMask<Float> k = tail(from + n - i);
                FloatVector e = load(x.address + 4 * i, k).sub(load(target.address + 4 * i, k));
                s = e.fma(e, s);
                if (dx.wanted()) Layers.set(dx, i, e.mul(slope), k);
            }
            return Lanes.sum(s);
        });
        put(loss.address, (float) (sum / x.size()));
    }
}
