package dev.qat.cpu;

import static dev.qat.cpu.Cells.clamp;
import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Snap;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.ValueLayout;

/**
 * The quantizers. Values and codes are fp32 arithmetic, one rounding per operation in the order written (no fused
 * multiply-add), ties to even, so that every backend gives the same bits; sums of gradients are doubles.
 */
final class ReferenceQuantizers {
    private static final float LEAST = 1e-4f, MOST = 1e4f, NARROWEST = 1e-12f;

    private ReferenceQuantizers() {}

    static void groupRange(Tensor step, Tensor zero, Tensor w, Grid grid) {
        int G = grid.group();
        for (long g = 0; g < step.size(); g++) {
            float min = get(w, g * G), max = min;
            for (long i = g * G; i < (g + 1) * G; i++) {
                min = Math.min(min, get(w, i));
                max = Math.max(max, get(w, i));
            }
            int z = grid.given();
            float least = grid.minimum() ? Math.min(min, 0) : min;
            float s = clamp(z < 0 ? (max - least) / grid.maxCode() : Math.max(max / (grid.maxCode() - z), -min / z), LEAST, MOST);
            put(step, g, s);
            put(zero, g, z >= 0 ? z : grid.minimum() ? least : Math.rint(-clamp(min / s, -MOST, MOST)));
        }
    }

    static void minMaxQuant(Tensor y, Tensor w, Grid grid) {
        int G = grid.group(), top = grid.maxCode();
        for (long g = 0; g < w.size() / G; g++) {
            float lo = 0, hi = 0;
            for (long i = g * G; i < (g + 1) * G; i++) {
                lo = Math.min(lo, get(w, i));
                hi = Math.max(hi, get(w, i));
            }
            float s = Math.max(hi - lo, NARROWEST) / top, z = (float) Math.rint(-lo / s);
            for (long i = g * G; i < (g + 1) * G; i++) put(y, i, (clamp((float) Math.rint(get(w, i) / s) + z, 0, top) - z) * s);
        }
    }

    static void minMaxQuantBack(Grad dw, Tensor dy, Tensor w, Grid grid) {
        int G = grid.group(), top = grid.maxCode();
        for (long g = 0; g < w.size() / G; g++) {
            long least = g * G, most = least;
            for (long i = g * G; i < (g + 1) * G; i++) {
                if (get(w, i) < get(w, least)) least = i;
                if (get(w, i) > get(w, most)) most = i;
            }
            float lo = Math.min(get(w, least), 0), hi = Math.max(get(w, most), 0), s = Math.max(hi - lo, NARROWEST) / top, z = (float) Math.rint(-lo / s);
            double ds = 0, out = 0;
            for (long i = g * G; i < (g + 1) * G; i++) {
                float v = get(w, i) / s, u = (float) Math.rint(v) + z;
                boolean outside = u < 0 || u > top;
                ds += (double) get(dy, i) * (clamp(u, 0, top) - z - (outside ? 0 : v));
                out += outside ? get(dy, i) : 0;
            }
            ds = hi - lo > NARROWEST ? ds - out * lo / s : 0;
            for (long i = g * G; i < (g + 1) * G; i++) {
                float u = (float) Math.rint(get(w, i) / s) + z;
                double range = (i == most && hi > 0 ? ds / top : 0) + (i == least && lo < 0 ? out - ds / top : 0);
                give(dw, i, (u < 0 || u > top ? 0 : get(dy, i)) + range);
            }
        }
    }

    /** The grid of one group as it is used: s′, z′ (or the minimum) and Q. */
    private record Affine(float step, float zero, float top, boolean minimum) {
        static Affine of(Tensor step, Tensor zero, long group, int maxCode, boolean minimum) {
            float z = get(zero, group);
            return new Affine(clamp(get(step, group), LEAST, MOST), minimum ? z : clamp((float) Math.rint(z), 0, maxCode), maxCode, minimum);
        }

        /** u: rint(w/s′) + z′, or rint((w − m)/s′) */
        float place(float w) {
            return minimum ? (float) Math.rint((w - zero) / step) : (float) Math.rint(w / step) + zero;
        }

        float code(float w) {
            return clamp(place(w), 0, top);
        }

        float value(float code) {
            return minimum ? code * step + zero : (code - zero) * step;
        }

        boolean inside(float w) {
            return 0 <= place(w) && place(w) <= top;
        }

        /** dy/ds′ of a weight */
        float slope(float w) {
            float level = minimum ? code(w) : code(w) - zero;
            return level - (inside(w) ? (minimum ? w - zero : w) / step : 0);
        }
    }

    static void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid) {
        for (long i = 0; i < w.size(); i++) {
            Affine a = Affine.of(step, zero, i / grid.group(), grid.maxCode(), grid.minimum());
            put(y, i, a.value(a.code(get(w, i))));
        }
    }

    static void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid) {
        int G = grid.group();
        for (long g = 0; g < step.size(); g++) {
            Affine a = Affine.of(step, zero, g, grid.maxCode(), grid.minimum());
            double stepSum = 0, zeroSum = 0;
            for (long i = g * G; i < (g + 1) * G; i++) {
                float d = get(dy, i), v = get(w, i);
                int mask = a.inside(v) ? 1 : 0;
                stepSum += (double) d * a.slope(v);
                zeroSum += (double) d * (a.minimum ? 1 - mask : a.step * (mask - 1));
                give(dw, i, d * mask);
            }
            give(dstep, g, stepSum);
            give(dzero, g, zeroSum);
        }
    }

    static void pack(PackedWeight packed, Tensor w, Tensor step, Tensor zero) {
        int maxCode = (1 << packed.bits()) - 1;
        for (long i = 0; i < packed.words().size(); i++) HostMemory.putInt(packed.words(), i, 0);
        for (long i = 0; i < w.size(); i++) {
            Affine a = Affine.of(step, zero, i / packed.group(), maxCode, packed.minimum());
            putCode(packed, i, (int) a.code(get(w, i)));
            put(packed.step(), i / packed.group(), a.step);
            put(packed.zero(), i / packed.group(), a.zero);
        }
    }

    static void snap(Tensor y, Tensor x, Snap how) {
        if (how.block() > 0) {
            for (long from = 0; from < x.size(); from += how.block()) snapBlock(y, x, from, Math.min(from + how.block(), x.size()), how);
        } else {
            for (long i = 0; i < x.size(); i++) put(y, i, Snap.round(clamp(get(x, i), how.low(), how.high()), how.half()));
        }
    }

    private static void snapBlock(Tensor y, Tensor x, long from, long to, Snap how) {
        float top = 0, sign = how.high() <= 0 ? -1 : 1;
        for (long i = from; i < to; i++) top = Math.max(top, Math.abs(clamp(get(x, i), how.low(), how.high())));
        float d = Snap.round(Math.max(top / 15, how.low()), how.half());
        for (long i = from; i < to; i++) {
            float code = clamp((float) Math.rint(Math.abs(clamp(get(x, i), how.low(), how.high())) / d), how.least(), 15);
            put(y, i, d == 0 ? 0 : sign * (code * d));
        }
    }

    private static float zero(PackedWeight p, long g) {
        return p.narrow() ? Byte.toUnsignedInt(HostMemory.ALL.get(ValueLayout.JAVA_BYTE, p.zero().address + g)) : get(p.zero(), g);
    }

    static void dequantize(Tensor y, PackedWeight packed, Tensor step) {
        for (long i = 0; i < y.size(); i++) {
            long g = i / packed.group();
            float z = zero(packed, g), s = get(step, g);
            put(y, i, packed.minimum() ? getCode(packed, i) * s + z : (getCode(packed, i) - z) * s);
        }
    }

    static void dequantizeBack(Grad dstep, Tensor dy, PackedWeight packed) {
        int G = packed.group();
        for (long g = 0; g < packed.step().size(); g++) {
            double sum = 0;
            for (long i = g * G; i < (g + 1) * G; i++) sum += (double) get(dy, i) * (getCode(packed, i) - (packed.minimum() ? 0 : zero(packed, g)));
            give(dstep, g, sum);
        }
    }

    /** The bit of a packed weight's words at which code i begins; a code may end in the next word, but never in the next row. */
    private static long firstBit(PackedWeight p, long i) {
        return i / p.cols() * p.words().cols() * 32 + i % p.cols() * p.bits();
    }

    private static void putCode(PackedWeight p, long i, int code) {
        for (int bit = 0; bit < p.bits(); bit++) {
            long at = firstBit(p, i) + bit;
            int word = HostMemory.getInt(p.words(), at / 32);
            HostMemory.putInt(p.words(), at / 32, word | (code >>> bit & 1) << at % 32);
        }
    }

    private static int getCode(PackedWeight p, long i) {
        int code = 0;
        for (int bit = 0; bit < p.bits(); bit++) {
            long at = firstBit(p, i) + bit;
            code |= (HostMemory.getInt(p.words(), at / 32) >>> at % 32 & 1) << bit;
        }
        return code;
    }

    static void lsq(Tensor y, Tensor w, Tensor step, Grid grid) {
        for (long i = 0; i < w.size(); i++) {
            float s = get(step, i / grid.group());
            put(y, i, s * (float) Math.rint(clamp(get(w, i) / s, grid.lowest(), grid.highest())));
        }
    }

    static void lsqBack(Grad dw, Grad dstep, Tensor dy, Tensor w, Tensor step, Grid grid) {
        int G = grid.group(), low = grid.lowest(), high = grid.highest();
        for (long g = 0; g < step.size(); g++) {
            float s = get(step, g);
            double sum = 0;
            for (long i = g * G; i < (g + 1) * G; i++) {
                float d = get(dy, i), v = get(w, i) / s;
                sum += (double) d * (v < low ? low : v > high ? high : (float) Math.rint(v) - v);
                give(dw, i, d * (v < low || v > high ? 0 : 1));
            }
            give(dstep, g, sum / Math.sqrt((double) G * high));
        }
    }

    static void rowQuant(Tensor y, Tensor x, RowGrid grid) {
        long C = x.cols();
        for (long n = 0; n < x.rows(); n++) {
            if (grid.symmetric()) symmetricRow(y, x, n * C, C, (1 << grid.bits() - 1) - 1);
            else asymmetricRow(y, x, n * C, C, (1 << grid.bits()) - 1);
        }
    }

    /** s = top/(max|x| + 1e-6);  y = rint(x·s)/(s + 1e-6) */
    private static void symmetricRow(Tensor y, Tensor x, long from, long C, int top) {
        float most = 0;
        for (long i = from; i < from + C; i++) most = Math.max(most, Math.abs(get(x, i)));
        float s = top / (most + 1e-6f);
        for (long i = from; i < from + C; i++) put(y, i, (float) Math.rint(get(x, i) * s) / (s + 1e-6f));
    }

    /** β = min x, α = max x − β;  n = (x − β)/(α + 1e-8);  y = rint(n·top)/top · (α + 1e-8) + β */
    private static void asymmetricRow(Tensor y, Tensor x, long from, long C, int top) {
        float min = get(x, from), max = min;
        for (long i = from; i < from + C; i++) {
            min = Math.min(min, get(x, i));
            max = Math.max(max, get(x, i));
        }
        float range = max - min + 1e-8f;
        for (long i = from; i < from + C; i++) {
            float part = (get(x, i) - min) / range;
            put(y, i, (float) Math.rint(part * top) / top * range + min);
        }
    }

    static void rowQuantBack(Grad dx, Tensor dy, Tensor x, RowGrid grid) {
        for (long i = 0; i < dy.size(); i++) {
            give(dx, i, get(dy, i) * (!grid.window() || Math.abs(get(x, i)) < 2 ? 1 : 0));
        }
    }
}
