package dev.qat.cpu;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.of;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;
import static dev.qat.cpu.Lanes.zero;

import dev.qat.ops.Grad;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/** Ternary weights and Tequila's bias: groups (rows, for the bias) shared out over the team. */
final class Ternary {
    private static final float LEAST = 1e-5f;
    /** Elements summed in fp32 before a double takes the sum. */
    private static final int PIECE = 4096;
    private static final int GROUPS = 16, EXPONENT = 30;

    private final Threads team;

    Ternary(Threads team) {
        this.team = team;
    }

    // ---- scales ------------------------------------------------------------------------------------------------------

    void range(Tensor scale, Tensor edge, Tensor w, Threshold rule, int G) {
        team.each(scale.size(), GROUPS, (_, from, to) -> {
            for (long g = from; g < to; g++) {
                long at = w.address + 4 * g * G;
                float s = 0, e = 0;
                switch (rule) {
                    case ABSMEAN -> e = 0.5f * (s = mean(at, G));
                    case TWN -> s = meanAbove(at, G, e = 0.75f * mean(at, G));
                    case MEDIAN -> e = 0.5f * (s = median(at, G));
                    case QUADS -> s = threeOfFour(at, G);
                }
                put(scale.address + 4 * g, s);
                put(edge.address + 4 * g, e);
            }
        });
    }

    private static float mean(long w, int G) {
        double sum = 0;
        for (int piece = 0; piece < G; piece += PIECE) {
            FloatVector part = zero();
            int end = Math.min(G, piece + PIECE);
            for (int i = piece; i < end; i += L) part = part.add(load(w + 4L * i, tail(end - i)).abs());
            sum += Lanes.sum(part);
        }
        return (float) (sum / G);
    }

    private static float meanAbove(long w, int G, float edge) {
        double sum = 0;
        int count = 0;
        for (int piece = 0; piece < G; piece += PIECE) {
            FloatVector part = zero();
            int end = Math.min(G, piece + PIECE);
            for (int i = piece; i < end; i += L) {
                VectorMask<Float> k = tail(end - i);
                FloatVector v = load(w + 4L * i, k).abs();
                VectorMask<Float> in = v.compare(VectorOperators.GE, edge).and(k);
                part = part.add(v, in);
                count += in.trueCount();
            }
            sum += Lanes.sum(part);
        }
        return count == 0 ? 0 : (float) (sum / count);
    }

    /** The lower median of |w|, bit by bit from the highest: as many as lie below decide each bit. */
    private static float median(long w, int G) {
        int found = 0, wanted = (G - 1) / 2;
        for (int bit = EXPONENT; bit >= 0; bit--) {
            float candidate = Float.intBitsToFloat(found | 1 << bit);
            if (Float.isNaN(candidate)) continue;
            int below = 0;
            for (int i = 0; i < G; i += L) {
                VectorMask<Float> k = tail(G - i);
                below += load(w + 4L * i, k).abs().compare(VectorOperators.LT, candidate).and(k).trueCount();
            }
            if (below <= wanted) found |= 1 << bit;
        }
        return Float.intBitsToFloat(found);
    }

    private static float threeOfFour(long w, int G) {
        double sum = 0;
        for (int q = 0; q < G; q += 4) {
            int zero = smallest(w + 4L * q);
            for (int i = 0; i < 4; i++) if (i != zero) sum += Math.abs(get(w + 4L * (q + i)));
        }
        return (float) (sum / (0.75 * G));
    }

    /** The first of the smallest of four neighbours. */
    private static int smallest(long w) {
        int at = 0;
        for (int i = 1; i < 4; i++) if (Math.abs(get(w + 4L * i)) < Math.abs(get(w + 4L * at))) at = i;
        return at;
    }

    // ---- weights -----------------------------------------------------------------------------------------------------

    private static float scaleOf(Tensor scale, Tensor edge, long g) {
        float s = get(scale.address + 4 * g);
        return edge != null ? s : Math.max(s, LEAST);
    }

    private static float edgeOf(Tensor edge, long g, float s, Trits t) {
        return edge != null ? get(edge.address + 4 * g) : t.edge() * s;
    }

    /** The trits, or fours, of L weights at {@code w}; where w is NaN so are they. */
    private static FloatVector trits(long w, FloatVector v, VectorMask<Float> k, float edge, Trits.Shape shape) {
        if (shape == Trits.Shape.QUADS) return quads(w, k);
        if (shape == Trits.Shape.FOURS) {
            return v.mul(0f).blend(1, v.compare(VectorOperators.GT, -edge)).blend(2, v.compare(VectorOperators.GE, 0)).blend(3, v.compare(VectorOperators.GT, edge));
        }
        return v.mul(0f).blend(-1, v.compare(VectorOperators.LE, -edge)).blend(1, v.compare(VectorOperators.GE, edge));
    }

    private static FloatVector quads(long w, VectorMask<Float> k) {
        float[] t = new float[L];
        for (int q = 0; q < k.trueCount(); q += 4) {
            int zero = smallest(w + 4L * q);
            for (int i = q; i < q + 4; i++) {
                float v = get(w + 4L * i);
                t[i] = i == q + zero ? 0 * v : v >= 0 ? 1 : v < 0 ? -1 : 0 * v;
            }
        }
        return FloatVector.fromArray(Lanes.S, t, 0);
    }

    void forward(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits trits) {
        int G = trits.group();
        team.each(scale.size(), GROUPS, (_, from, to) -> {
            float r = residual == null ? 0 : get(residual.address);
            for (long n = from; n < to; n++) {
                float s = scaleOf(scale, edge, n), e = edgeOf(edge, n, s, trits), level = s * trits.level();
                for (long i = n * G; i < (n + 1) * G; i += L) {
                    VectorMask<Float> k = tail((n + 1) * G - i);
                    FloatVector v = load(w.address + 4 * i, k), q = trits(w.address + 4 * i, v, k, e, trits.shape()).mul(level);
                    if (trits.offset() != 0) q = q.add(trits.offset() * s);
                    if (shift != null) q = q.add(get(shift.address + 4 * n));
                    if (residual != null) q = q.add(v.mul(r));
                    store(y.address + 4 * i, q, k);
                }
            }
        });
    }

    void back(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits trits) {
        int G = trits.group();
        team.each(scale.size(), GROUPS, (_, from, to) -> {
            float r = residual == null ? 0 : get(residual.address);
            for (long n = from; n < to; n++) {
                float s = scaleOf(scale, edge, n), e = edgeOf(edge, n, s, trits);
                FloatVector scaleSum = zero(), shiftSum = zero();
                for (long i = n * G; i < (n + 1) * G; i += L) {
                    VectorMask<Float> k = tail((n + 1) * G - i);
                    FloatVector d = load(dy.address + 4 * i, k), v = load(w.address + 4 * i, k);
                    VectorMask<Float> clipped = v.abs().compare(VectorOperators.GT, trits.clip() * s);
                    if (dscale.wanted()) {
                        FloatVector level = trits(w.address + 4 * i, v, k, e, trits.shape()).mul(trits.level()).add(trits.offset()).sub(v.div(s));
                        FloatVector beyond = of(trits.beyond()).blend(-trits.beyond(), v.compare(VectorOperators.LT, 0));
                        scaleSum = d.fma(level.blend(beyond, clipped), scaleSum);
                    }
                    shiftSum = shiftSum.add(d);
                    if (dw.wanted()) Layers.set(dw, i, d.mul(of(1).blend(0, clipped).add(r)), k);
                }
                if (dscale.wanted()) set(dscale, n, trits.slope() * Lanes.sum(scaleSum));
                if (dshift.wanted()) set(dshift, n, Lanes.sum(shiftSum));
            }
        });
    }

    private static void set(Grad to, long i, float v) {
        long at = to.to().address + 4 * i;
        put(at, to.add() ? get(at) + v : v);
    }

    // ---- the dead zone as a bias -------------------------------------------------------------------------------------

    /** Where the stretch of row elements from i on ends that one group holds. */
    private static long stretch(long i, long rowEnd, Trits t) {
        return Math.min(rowEnd, (i / t.group() + 1) * t.group());
    }

    /** The dead of L weights; one that is NaN counts, so that it is seen. */
    private static VectorMask<Float> dead(FloatVector v, VectorMask<Float> k, float edge) {
        return k.andNot(v.abs().compare(VectorOperators.GE, edge));
    }

    /** What epsilon is multiplied with: weights, or their signs; NaN where a weight is. */
    private static FloatVector counts(FloatVector v, boolean sign) {
        return sign ? v.blend(1, v.compare(VectorOperators.GE, 0)).blend(-1, v.compare(VectorOperators.LT, 0)) : v;
    }

    void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t, boolean sign) {
        Fail.unless(!t.quads(), "quads have no dead zone");
        boolean each = epsilon.size() == w.size();
        team.each(w.rows(), 1, (_, from, to) -> {
            for (long o = from; o < to; o++) {
                FloatVector sum = zero();
                int count = 0;
                long end = (o + 1) * w.cols();
                for (long first = o * w.cols(), last; first < end; first = last) {
                    last = stretch(first, end, t);
                    float e = edgeOf(edge, first / t.group(), scaleOf(scale, edge, first / t.group()), t);
                    for (long i = first; i < last; i += L) {
                        VectorMask<Float> k = tail(last - i);
                        FloatVector v = load(w.address + 4 * i, k);
                        VectorMask<Float> out = dead(v, k, e);
                        v = counts(v, sign);
                        sum = sum.add(each ? v.mul(load(epsilon.address + 4 * i, k)) : v, out);
                        count += out.trueCount();
                    }
                }
                float b = Lanes.sum(sum) * (each ? 1 : get(epsilon.address + 4 * o));
                put(bias.address + 4 * o, plus == null ? b : get(plus.address + 4 * o) + b);
                put(dead.address + 4 * o, count);
            }
        });
    }

    void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t, boolean sign) {
        boolean each = epsilon.size() == w.size();
        team.each(w.rows(), 1, (_, from, to) -> {
            for (long o = from; o < to; o++) {
                float d = get(dy.address + 4 * o), slope = sign || each ? d : d * get(epsilon.address + 4 * o);
                FloatVector sum = zero();
                long end = (o + 1) * w.cols();
                for (long first = o * w.cols(), last; first < end; first = last) {
                    last = stretch(first, end, t);
                    float e = edgeOf(edge, first / t.group(), scaleOf(scale, edge, first / t.group()), t);
                    for (long i = first; i < last; i += L) {
                        VectorMask<Float> k = tail(last - i);
                        FloatVector v = load(w.address + 4 * i, k);
                        VectorMask<Float> out = dead(v, k, e);
                        v = counts(v, sign);
                        sum = sum.add(v, out);
                        if (dw.wanted()) Layers.set(dw, i, zero().blend(each && !sign ? load(epsilon.address + 4 * i, k).mul(d) : of(slope), out), k);
                        if (each && depsilon.wanted()) Layers.set(depsilon, i, zero().blend(v.mul(d), out), k);
                    }
                }
                if (!each && depsilon.wanted()) set(depsilon, o, d * Lanes.sum(sum));
            }
        });
    }
}
