package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.RowGrid;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.of;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;
import static dev.qat.cpu.Lanes.zero;

/** Fake quantization and its straight-through gradients: groups (or rows) shared out over the team, one fused pass each. */
final class Quantizers {
    static final float STEP_MIN = 1e-4f, STEP_MAX = 1e4f;

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
        int g = grid.group();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float lo = Float.POSITIVE_INFINITY, hi = Float.NEGATIVE_INFINITY;
                for (long i = n * g; i < (n + 1) * g; i++) {
                    float v = get(w.address + 4 * i);
                    lo = Math.min(lo, v);
                    hi = Math.max(hi, v);
                }
                float s = stepOf((hi - lo) / grid.maxCode());
                put(step.address + 4 * n, s);
                put(zero.address + 4 * n, (float) Math.rint(-Math.min(Math.max(lo / s, -1e4f), 1e4f)));
            }
        });
    }

    void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid) {
        int g = grid.group(), q = grid.maxCode();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float s = stepOf(get(step.address + 4 * n)), z = zeroOf(get(zero.address + 4 * n), q);
                long at = 4 * n * g;
                int i = 0;
                for (; i + L <= g; i += L) store(y.address + at + 4L * i, lattice(load(w.address + at + 4L * i), s, z, q));
                if (i < g) {
                    VectorMask<Float> k = tail(g - i);
                    store(y.address + at + 4L * i, lattice(load(w.address + at + 4L * i, k), s, z, q), k);
                }
            }
        });
    }

    /** (clamp(rint(w/s) + z, 0, Q) − z) · s */
    private static FloatVector lattice(FloatVector w, float s, float z, int q) {
        return Lanes.clamp(Lanes.rint(w.div(s)).add(z), 0, q).sub(z).mul(s);
    }

    void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid) {
        int g = grid.group(), q = grid.maxCode();
        team.each(w.size() / g, 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                float s = stepOf(get(step.address + 4 * n)), z = zeroOf(get(zero.address + 4 * n), q);
                FloatVector ds = zero(), out = zero();
                for (long i = n * g; i < (n + 1) * g; i += L) {
                    VectorMask<Float> k = tail((n + 1) * g - i);
                    FloatVector d = load(dy.address + 4 * i, k), v = load(w.address + 4 * i, k).div(s), u = Lanes.rint(v).add(z);
                    // NaN compares false: it counts as inside, so that it reaches the gradients
                    VectorMask<Float> outside = u.compare(VectorOperators.LT, 0).or(u.compare(VectorOperators.GT, q));
                    FloatVector level = Lanes.clamp(u, 0, q).sub(z);
                    ds = d.fma(level.sub(v).blend(level, outside), ds);
                    out = out.add(zero().blend(d, outside));
                    if (dw.wanted()) Layers.set(dw, i, d.blend(0, outside), k);
                }
                if (dstep.wanted()) set(dstep, n, Lanes.sum(ds));
                if (dzero.wanted()) set(dzero, n, -s * Lanes.sum(out));
            }
        });
    }

    private static void set(Grad to, long i, float v) {
        long at = to.to().address + 4 * i;
        put(at, to.add() ? get(at) + v : v);
    }

    void pack(PackedWeight p, Tensor w, Tensor step, Tensor zero, Grid grid) {
        int q = grid.maxCode(), g = grid.group();
        long perRow = p.words().cols(), cols = p.cols();
        team.each(p.rows(), 1, (t, from, to) -> {
            for (long r = from; r < to; r++) {
                long base = p.words().address + 4 * r * perRow;
                for (long i = 0; i < perRow; i++) Lanes.putInt(base + 4 * i, 0);
                for (long i = 0; i < cols; i++) {
                    long n = (r * cols + i) / g;
                    float s = stepOf(get(step.address + 4 * n)), z = zeroOf(get(zero.address + 4 * n), q);
                    if (i % g == 0) {
                        put(p.step().address + 4 * n, s);
                        put(p.zero().address + 4 * n, z);
                    }
                    float u = (float) Math.rint(get(w.address + 4 * (r * cols + i)) / s) + z;
                    Codes.set(base, i, p.bits(), (int) Math.min(Math.max(u, 0), q));
                }
            }
        });
    }

    void dequantize(Tensor y, PackedWeight p, Tensor step) {
        int g = p.group();
        long perRow = p.words().cols(), cols = p.cols(), groups = cols / g;
        team.each(p.rows(), 1, (t, from, to) -> {
            for (long r = from; r < to; r++) {
                long base = p.words().address + 4 * r * perRow;
                for (long n = 0; n < groups; n++) {
                    float s = get(step.address + 4 * (r * groups + n)), z = get(p.zero().address + 4 * (r * groups + n));
                    for (long i = n * g; i < (n + 1) * g; i += L) {
                        VectorMask<Float> k = tail((n + 1) * g - i);
                        store(y.address + 4 * (r * cols + i), Codes.load(base, i, p.bits(), perRow).sub(z).mul(s), k);
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
                    float z = get(p.zero().address + 4 * (r * groups + n));
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
