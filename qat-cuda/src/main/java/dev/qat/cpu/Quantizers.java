package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Snap;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;
import static dev.qat.cpu.Lanes.zero;

/** Fake quantization and its straight-through gradients: groups (or rows) shared out over the team, one fused pass each. */
final class Quantizers {
    static final float STEP_MIN = 1e-4f, STEP_MAX = 1e4f;
    private static final float NARROWEST = 1e-12f;

    private final Threads team;

    Quantizers(Threads team) {
        this.team = team;
    }

    static float stepOf(float s) {
        return Math.min(Math.max(s, STEP_MIN), STEP_MAX);
    }

    static float zeroOf(float z, int q) {
        return Math.min(Math.max((float) Math.rint(z), 0), q);
    }

    void groupRange(Tensor step, Tensor zero, Tensor w, Grid grid) {
        int g = grid.group(), z = grid.given();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float lo = Float.POSITIVE_INFINITY, hi = Float.NEGATIVE_INFINITY;
                for (long i = n * g; i < (n + 1) * g; i++) {
                    float v = get(w.address + 4 * i);
                    lo = Math.min(lo, v);
                    hi = Math.max(hi, v);
                }
                float least = grid.minimum() ? Math.min(lo, 0) : lo;
                float s = stepOf(z < 0 ? (hi - least) / grid.maxCode() : Math.max(hi / (grid.maxCode() - z), -lo / z));
                put(step.address + 4 * n, s);
                put(zero.address + 4 * n, z >= 0 ? z : grid.minimum() ? least : (float) Math.rint(-Math.min(Math.max(lo / s, -1e4f), 1e4f)));
            }
        });
    }

    void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid) {
        int g = grid.group(), q = grid.maxCode();
        boolean minimum = grid.minimum();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float s = stepOf(get(step.address + 4 * n)), m = get(zero.address + 4 * n), z = minimum ? m : zeroOf(m, q);
                long at = 4 * n * g;
                int i = 0;
                for (; i + L <= g; i += L) store(y.address + at + 4L * i, lattice(load(w.address + at + 4L * i), s, z, q, minimum));
                if (i < g) {
                    VectorMask<Float> k = tail(g - i);
                    store(y.address + at + 4L * i, lattice(load(w.address + at + 4L * i, k), s, z, q, minimum), k);
                }
            }
        });
    }

    void minMaxQuant(Tensor y, Tensor w, Grid grid) {
        int g = grid.group(), q = grid.maxCode();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float lo = 0, hi = 0;
                for (long i = n * g; i < (n + 1) * g; i++) {
                    float v = get(w.address + 4 * i);
                    lo = Math.min(lo, v);
                    hi = Math.max(hi, v);
                }
                float s = Math.max(hi - lo, NARROWEST) / q, z = (float) Math.rint(-lo / s);
                for (long i = n * g; i < (n + 1) * g; i += L) {
                    VectorMask<Float> k = tail((n + 1) * g - i);
                    store(y.address + 4 * i, lattice(load(w.address + 4 * i, k), s, z, q, false), k);
                }
            }
        });
    }

    void minMaxQuantBack(Grad dw, Tensor dy, Tensor w, Grid grid) {
        if (!dw.wanted()) return;
        int g = grid.group();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) minMaxGroup(dw, dy, w, n * g, (n + 1) * g, grid.maxCode());
        });
    }

    private static void minMaxGroup(Grad dw, Tensor dy, Tensor w, long from, long to, int q) {
        long least = from, most = from;
        for (long i = from; i < to; i++) {
            if (get(w.address + 4 * i) < get(w.address + 4 * least)) least = i;
            if (get(w.address + 4 * i) > get(w.address + 4 * most)) most = i;
        }
        float lo = Math.min(get(w.address + 4 * least), 0), hi = Math.max(get(w.address + 4 * most), 0), s = Math.max(hi - lo, NARROWEST) / q, z = (float) Math.rint(-lo / s);
        FloatVector sum = zero(), clipped = zero();
        for (long i = from; i < to; i += L) {
            VectorMask<Float> k = tail(to - i);
            FloatVector d = load(dy.address + 4 * i, k), v = load(w.address + 4 * i, k).div(s), u = Lanes.rint(v).add(z);
            VectorMask<Float> outside = u.compare(VectorOperators.LT, 0).or(u.compare(VectorOperators.GT, q));
            FloatVector level = Lanes.clamp(u, 0, q).sub(z);
            sum = d.fma(level.sub(v).blend(level, outside), sum);
            clipped = clipped.add(zero().blend(d, outside));
            Layers.set(dw, i, d.blend(0, outside), k);
        }
        float out = Lanes.sum(clipped), ds = hi - lo > NARROWEST ? Lanes.sum(sum) - out * lo / s : 0;
        if (hi > 0) more(dw, most, ds / q);
        if (lo < 0) more(dw, least, out - ds / q);
    }

    private static void more(Grad to, long i, float v) {
        long at = to.to().address + 4 * i;
        put(at, get(at) + v);
    }

    /** (clamp(rint(w/s) + z, 0, Q) − z) · s, or clamp(rint((w − m)/s), 0, Q) · s + m */
    private static FloatVector lattice(FloatVector w, float s, float z, int q, boolean minimum) {
        if (minimum) return Lanes.clamp(Lanes.rint(w.sub(z).div(s)), 0, q).mul(s).add(z);
        return Lanes.clamp(Lanes.rint(w.div(s)).add(z), 0, q).sub(z).mul(s);
    }

    void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid) {
        int g = grid.group(), q = grid.maxCode();
        boolean minimum = grid.minimum();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                // with a minimum, codes count from it: it is taken off the weight, and no zero point off the code
                float s = stepOf(get(step.address + 4 * n)), m = minimum ? get(zero.address + 4 * n) : 0, z = minimum ? 0 : zeroOf(get(zero.address + 4 * n), q);
                FloatVector ds = zero(), out = zero();
                for (long i = n * g; i < (n + 1) * g; i += L) {
                    VectorMask<Float> k = tail((n + 1) * g - i);
                    FloatVector d = load(dy.address + 4 * i, k), v = load(w.address + 4 * i, k).sub(m).div(s), u = Lanes.rint(v).add(z);
                    // NaN compares false: it counts as inside, so that it reaches the gradients
                    VectorMask<Float> outside = u.compare(VectorOperators.LT, 0).or(u.compare(VectorOperators.GT, q));
                    FloatVector level = Lanes.clamp(u, 0, q).sub(z);
                    ds = d.fma(level.sub(v).blend(level, outside), ds);
                    out = out.add(zero().blend(d, outside));
                    if (dw.wanted()) Layers.set(dw, i, d.blend(0, outside), k);
                }
                if (dstep.wanted()) set(dstep, n, Lanes.sum(ds));
                if (dzero.wanted()) set(dzero, n, (minimum ? 1 : -s) * Lanes.sum(out));
            }
        });
    }

    private static void set(Grad to, long i, float v) {
        long at = to.to().address + 4 * i;
        put(at, to.add() ? get(at) + v : v);
    }

    void pack(PackedWeight p, Tensor w, Tensor step, Tensor zero) {
        int q = (1 << p.bits()) - 1, g = p.group();
        long perRow = p.words().cols(), cols = p.cols();
        team.each(p.rows(), 1, (t, from, to) -> {
            for (long r = from; r < to; r++) {
                long base = p.words().address + 4 * r * perRow;
                for (long i = 0; i < perRow; i++) Lanes.putInt(base + 4 * i, 0);
                for (long i = 0; i < cols; i++) {
                    long n = (r * cols + i) / g;
                    float s = stepOf(get(step.address + 4 * n)), m = get(zero.address + 4 * n), z = p.minimum() ? m : zeroOf(m, q);
                    if (i % g == 0) {
                        put(p.step().address + 4 * n, s);
                        put(p.zero().address + 4 * n, z);
                    }
                    float v = get(w.address + 4 * (r * cols + i)), u = p.minimum() ? (float) Math.rint((v - z) / s) : (float) Math.rint(v / s) + z;
                    Codes.set(base, i, p.bits(), (int) Math.min(Math.max(u, 0), q));
                }
            }
        });
    }

    private static float zeroPoint(PackedWeight p, long n) {
        return p.narrow() ? Byte.toUnsignedInt(HostMemory.ALL.get(ValueLayout.JAVA_BYTE, p.zero().address + n)) : get(p.zero().address + 4 * n);
    }

    void dequantize(Tensor y, PackedWeight p, Tensor step) {
        int g = p.group();
        long perRow = p.words().cols(), cols = p.cols(), groups = cols / g;
        team.each(p.rows(), 1, (t, from, to) -> {
            for (long r = from; r < to; r++) {
                long base = p.words().address + 4 * r * perRow;
                for (long n = 0; n < groups; n++) {
                    float s = get(step.address + 4 * (r * groups + n)), z = zeroPoint(p, r * groups + n);
                    for (long i = n * g; i < (n + 1) * g; i += L) {
                        VectorMask<Float> k = tail((n + 1) * g - i);
                        FloatVector code = Codes.load(base, i, p.bits(), perRow);
                        store(y.address + 4 * (r * cols + i), p.minimum() ? code.mul(s).add(z) : code.sub(z).mul(s), k);
                    }
                }
            }
        });
    }

    void dequantizeBack(Grad dstep, Tensor dy, PackedWeight p) {
        if (!dstep.wanted()) return;
        int g = p.group();
        long perRow = p.words().cols(), cols = p.cols(), groups = cols / g;
        team.each(p.rows(), 1, (t, from, to) -> {
            for (long r = from; r < to; r++) {
                long base = p.words().address + 4 * r * perRow;
                for (long n = 0; n < groups; n++) {
                    float z = p.minimum() ? 0 : zeroPoint(p, r * groups + n);
                    FloatVector sum = zero();
                    for (long i = n * g; i < (n + 1) * g; i += L) {
                        VectorMask<Float> k = tail((n + 1) * g - i);
                        sum = load(dy.address + 4 * (r * cols + i), k).fma(Codes.load(base, i, p.bits(), perRow).sub(z), sum);
                    }
                    set(dstep, r * groups + n, Lanes.sum(sum));
                }
            }
        });
    }

    /** Few numbers, so plain loops. */
    void snap(Tensor y, Tensor x, Snap how) {
        int block = Math.max(1, how.block());
        team.each(Math.ceilDiv(x.size(), block), 256, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                long end = Math.min((n + 1) * block, x.size());
                if (how.block() == 0) put(y.address + 4 * n, Snap.round(clamp(get(x.address + 4 * n), how.low(), how.high()), how.half()));
                else snapBlock(y, x, n * block, end, how);
            }
        });
    }

    private static void snapBlock(Tensor y, Tensor x, long from, long to, Snap how) {
        float top = 0, sign = how.high() <= 0 ? -1 : 1;
        for (long i = from; i < to; i++) top = Math.max(top, Math.abs(clamp(get(x.address + 4 * i), how.low(), how.high())));
        float d = Snap.round(Math.max(top / 15, how.low()), how.half());
        for (long i = from; i < to; i++) {
            float code = clamp((float) Math.rint(Math.abs(clamp(get(x.address + 4 * i), how.low(), how.high())) / d), how.least(), 15);
            put(y.address + 4 * i, d == 0 ? 0 : sign * (code * d));
        }
    }

    private static float clamp(float v, float low, float high) {
        return v < low ? low : v > high ? high : v;
    }

    void lsq(Tensor y, Tensor w, Tensor step, Grid grid) {
        int g = grid.group();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float s = get(step.address + 4 * n);
                for (long i = n * g; i < (n + 1) * g; i += L) {
                    VectorMask<Float> k = tail((n + 1) * g - i);
                    FloatVector v = Lanes.clamp(load(w.address + 4 * i, k).div(s), grid.lowest(), grid.highest());
                    store(y.address + 4 * i, Lanes.rint(v).mul(s), k);
                }
            }
        });
    }

    void lsqBack(Grad dw, Grad dstep, Tensor dy, Tensor w, Tensor step, Grid grid) {
        int g = grid.group(), lo = grid.lowest(), hi = grid.highest();
        float kappa = (float) (1 / Math.sqrt((double) g * Math.max(hi, 1)));
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float s = get(step.address + 4 * n);
                FloatVector ds = zero();
                for (long i = n * g; i < (n + 1) * g; i += L) {
                    VectorMask<Float> k = tail((n + 1) * g - i);
                    FloatVector d = load(dy.address + 4 * i, k), v = load(w.address + 4 * i, k).div(s);
                    VectorMask<Float> below = v.compare(VectorOperators.LT, lo), above = v.compare(VectorOperators.GT, hi);
                    ds = d.fma(Lanes.rint(v).sub(v).blend(lo, below).blend(hi, above), ds);
                    if (dw.wanted()) Layers.set(dw, i, d.blend(0, below.or(above)), k);
                }
                if (dstep.wanted()) set(dstep, n, kappa * Lanes.sum(ds));
            }
        });
    }

    void rowQuant(Tensor y, Tensor x, RowGrid grid) {
        long c = x.cols();
        team.each(x.rows(), 1, (t, from, to) -> {
            for (long r = from; r < to; r++) {
                long in = x.address + 4 * r * c, out = y.address + 4 * r * c;
                if (grid.symmetric()) symmetricRow(out, in, c, grid.bits());
                else asymmetricRow(out, in, c, grid.bits());
            }
        });
    }

    private static void symmetricRow(long y, long x, long c, int bits) {
        FloatVector m = zero();
        for (long i = 0; i < c; i += L) m = m.max(load(x + 4 * i, tail(c - i)).abs());
        float s = ((1 << (bits - 1)) - 1) / (Lanes.max(m) + 1e-6f), inv = s + 1e-6f;
        for (long i = 0; i < c; i += L) {
            VectorMask<Float> k = tail(c - i);
            store(y + 4 * i, Lanes.rint(load(x + 4 * i, k).mul(s)).div(inv), k);
        }
    }

    /** β = min, α = max − min:  rint((x−β)/(α+1e-8) · (2^b−1)) / (2^b−1) · (α+1e-8) + β */
    private static void asymmetricRow(long y, long x, long c, int bits) {
        float lo = Float.POSITIVE_INFINITY, hi = Float.NEGATIVE_INFINITY;
        for (long i = 0; i < c; i++) {
            float v = get(x + 4 * i);
            lo = Math.min(lo, v);
            hi = Math.max(hi, v);
        }
        float alpha = hi - lo + 1e-8f, q = (1 << bits) - 1;
        for (long i = 0; i < c; i += L) {
            VectorMask<Float> k = tail(c - i);
            FloatVector n = load(x + 4 * i, k).sub(lo).div(alpha);
            store(y + 4 * i, Lanes.rint(n.mul(q)).div(q).mul(alpha).add(lo), k);
        }
    }

    void rowQuantBack(Grad dx, Tensor dy, Tensor x, RowGrid grid) {
        if (!dx.wanted()) return;
        team.each(x.size(), L, (t, from, to) -> {
            for (long i = from; i < to; i += L) {
                VectorMask<Float> k = tail(to - i);
                FloatVector d = load(dy.address + 4 * i, k);
                if (grid.window()) d = d.blend(0, load(x.address + 4 * i, k).abs().compare(VectorOperators.GE, 2));
                Layers.set(dx, i, d, k);
            }
        });
    }
}
