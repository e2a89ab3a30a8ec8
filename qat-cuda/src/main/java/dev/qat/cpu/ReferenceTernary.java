package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.Grad;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.Tensor;
import java.util.Arrays;

/** Ternary weights. Values are fp32 arithmetic, one rounding per operation in the order written; sums are doubles. */
final class ReferenceTernary {
    private static final float LEAST = 1e-5f;

    private ReferenceTernary() {}

    static void range(Tensor scale, Tensor edge, Tensor w, Threshold rule, int G) {
        for (long g = 0; g < scale.size(); g++) {
            float mean = mean(w, g * G, G, 0, G), e = 0, s = 0;
            switch (rule) {
                case ABSMEAN -> e = 0.5f * (s = mean);
                case TWN -> s = above(w, g * G, G, e = 0.75f * mean);
                case MEDIAN -> e = 0.5f * (s = median(w, g * G, G));
                case QUADS -> s = threeOfFour(w, g * G, G);
            }
            put(scale, g, s);
            put(edge, g, e);
        }
    }

    /** Σ of |w| ≥ least, over {@code count}. */
    private static float mean(Tensor w, long from, int G, float least, double count) {
        double sum = 0;
        for (long i = from; i < from + G; i++) if (!(Math.abs(get(w, i)) < least)) sum += Math.abs(get(w, i));
        return (float) (sum / count);
    }

    private static float above(Tensor w, long from, int G, float edge) {
        int count = 0;
        for (long i = from; i < from + G; i++) if (Math.abs(get(w, i)) >= edge) count++;
        return count == 0 ? 0 : mean(w, from, G, edge, count);
    }

    private static float median(Tensor w, long from, int G) {
        float[] all = new float[G];
        for (int i = 0; i < G; i++) all[i] = Math.abs(get(w, from + i));
        Arrays.sort(all);
        return all[(G - 1) / 2];
    }

    private static float threeOfFour(Tensor w, long from, int G) {
        double sum = 0;
        for (long i = from; i < from + G; i++) if (i != smallest(w, i / 4 * 4)) sum += Math.abs(get(w, i));
        return (float) (sum / (0.75 * G));
    }

    /** The first of the smallest of four neighbours. */
    private static long smallest(Tensor w, long from) {
        long at = from;
        for (long i = from + 1; i < from + 4; i++) if (Math.abs(get(w, i)) < Math.abs(get(w, at))) at = i;
        return at;
    }

    /** The scale and the edge of one group as they are used. */
    private record Group(float scale, float edge) {
        static Group of(Tensor scale, Tensor edge, long g, Trits t) {
            if (edge != null) return new Group(get(scale, g), get(edge, g));
            float s = Math.max(get(scale, g), LEAST);
            return new Group(s, t.edge() * s);
        }
    }

    /** 1, −1 or 0, of fours 0 to 3; NaN where w is. */
    private static float trit(Tensor w, long i, float edge, Trits.Shape shape) {
        float v = get(w, i);
        if (shape == Trits.Shape.FOURS) return v > edge ? 3 : v >= 0 ? 2 : v > -edge ? 1 : 0 * v;
        if (shape == Trits.Shape.QUADS) return i == smallest(w, i / 4 * 4) ? 0 * v : v >= 0 ? 1 : v < 0 ? -1 : 0 * v;
        return v >= edge ? 1 : v <= -edge ? -1 : 0 * v;
    }

    static void forward(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits t) {
        for (long i = 0; i < w.size(); i++) {
            Group g = Group.of(scale, edge, i / t.group(), t);
            float v = g.scale * t.level() * trit(w, i, g.edge, t.shape());
            if (t.offset() != 0) v += t.offset() * g.scale;
            if (shift != null) v += get(shift, i / t.group());
            if (residual != null) v += get(residual, 0) * get(w, i);
            put(y, i, v);
        }
    }

    static void back(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits t) {
        int G = t.group();
        float r = residual == null ? 0 : get(residual, 0);
        for (long n = 0; n < scale.size(); n++) {
            Group g = Group.of(scale, edge, n, t);
            double scaleSum = 0, shiftSum = 0;
            for (long i = n * G; i < (n + 1) * G; i++) {
                float d = get(dy, i), v = get(w, i);
                boolean clipped = Math.abs(v) > t.clip() * g.scale;
                scaleSum += (double) d * (clipped ? Math.copySign(t.beyond(), v) : t.level() * trit(w, i, g.edge, t.shape()) + t.offset() - v / g.scale);
                shiftSum += d;
                give(dw, i, d * ((clipped ? 0 : 1) + r));
            }
            give(dscale, n, t.slope() * scaleSum);
            give(dshift, n, shiftSum);
        }
    }

    private static boolean dead(Tensor w, long i, Tensor scale, Tensor edge, Trits t) {
        float e = Group.of(scale, edge, i / t.group(), t).edge;
        return !(Math.abs(get(w, i)) >= e);
    }

    /** What epsilon is multiplied with; NaN where the weight is. */
    private static float counts(float w, boolean sign) {
        return sign ? w >= 0 ? 1 : w < 0 ? -1 : w : w;
    }

    static void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t, boolean sign) {
        long I = w.cols();
        for (long o = 0; o < w.rows(); o++) {
            double sum = 0;
            int count = 0;
            for (long i = o * I; i < (o + 1) * I; i++) {
                if (!dead(w, i, scale, edge, t)) continue;
                count++;
                sum += (double) counts(get(w, i), sign) * get(epsilon, epsilon.size() == w.size() ? i : o);
            }
            put(bias, o, (plus == null ? 0 : get(plus, o)) + sum);
            put(dead, o, count);
        }
    }

    static void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t, boolean sign) {
        long I = w.cols();
        boolean each = epsilon.size() == w.size();
        for (long o = 0; o < w.rows(); o++) {
            float d = get(dy, o);
            double sum = 0;
            for (long i = o * I; i < (o + 1) * I; i++) {
                boolean dead = dead(w, i, scale, edge, t);
                if (dead) sum += counts(get(w, i), sign);
                give(dw, i, !dead ? 0 : sign ? d : d * get(epsilon, each ? i : o));
                if (each) give(depsilon, i, dead ? d * counts(get(w, i), sign) : 0);
            }
            if (!each) give(depsilon, o, d * sum);
        }
    }
}
