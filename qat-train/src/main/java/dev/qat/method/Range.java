package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Grid;
import dev.qat.tensor.Fail;

/**
 * A group's grid, 0 always on it:  s = (hi − lo)/Q, z = rint(−lo/s), v̂ = (clamp(rint(v/s) + z, 0, Q) − z) · s with lo ≤ 0 ≤ hi.
 * The step is an fp32 number between the least and the greatest that codes are stored with.
 */
record Range(float step, float zero, int top) {
    private static final float LEAST = 1e-4f, MOST = 1e4f;

    /** The grid a stage asks for, of whole zero points; what a target fixes otherwise, these ranges do not know. */
    static Grid grid(Rule rule, String stage, Linear l, int bits, int group) {
        Grid grid = rule.grid(l, bits, group);
        if (grid.offset() == Grid.Offset.POINT) return grid;
        throw Fail.usage("%s finds a zero point for every group, and target %s holds none. Take a gptq-v2 or awq target, or let rtn or block-ap follow.", stage, rule.target());
    }

    static Range of(double lo, double hi, int bits) {
        int top = (1 << bits) - 1;
        float s = (float) Math.min(Math.max((hi - lo) / top, LEAST), MOST);
        return new Range(s, (float) Math.min(Math.rint(-lo / s), top), top);
    }

    /** The range of v[from .. from + count). */
    static Range minMax(double[] v, int from, int count, int bits) {
        double lo = 0, hi = 0;
        for (int i = from; i < from + count; i++) {
            lo = Math.min(lo, v[i]);
            hi = Math.max(hi, v[i]);
        }
        return of(lo, hi, bits);
    }

    /** The range among min-max shrunk by 1 − i/100, i = 0 … 79, with the least Σ |v − v̂|^2.4 (GPTQ's mse option). */
    static Range searched(double[] v, int from, int count, int bits) {
        double lo = 0, hi = 0, least = Double.POSITIVE_INFINITY;
        for (int i = from; i < from + count; i++) {
            lo = Math.min(lo, v[i]);
            hi = Math.max(hi, v[i]);
        }
        Range best = null;
        for (int i = 0; i < 80; i++) {
            Range r = of(lo * (1 - i / 100.0), hi * (1 - i / 100.0), bits);
            double error = 0;
            for (int k = from; k < from + count; k++) error += Math.pow(Math.abs(v[k] - r.nearest(v[k])), 2.4);
            if (error < least) {
                least = error;
                best = r;
            }
        }
        return best;
    }

    /** The point of the grid next to v. */
    float nearest(double v) {
        return (float) (Math.min(Math.max(Math.rint(v / step) + zero, 0), top) - zero) * step;
    }
}
