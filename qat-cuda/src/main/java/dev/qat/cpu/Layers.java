package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.tensor.HostMemory;
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

/** Embedding, rmsnorm, rope and swiglu: rows shared out over the team, one fused pass each. */
final class Layers {
    private final Threads team;
    private final HostMemory memory;
    /** A row of sums per thread; grows only when a wider norm than ever before is seen. */
    private long partial, partialFloats;

    Layers(Threads team, HostMemory memory) {
        this.team = team;
        this.memory = memory;
    }

    void close() {
        if (partial != 0) memory.free(partial);
    }

    void embed(Tensor y, Tensor ids, Tensor table) {
        long c = table.cols();
        team.each(ids.size(), 16, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                Moves.copyRow(y.address + 4 * n * c, table.address + 4 * getInt(ids.address + 4 * n) * c, c);
            }
        });
    }

    /** Threads share out columns, so that every row of the table sums its tokens in order. */
    void embedBack(Grad dtable, Tensor dy, Tensor ids) {
        if (!dtable.wanted()) return;
        long c = dy.cols(), table = dtable.to().address;
        team.each(c, L, (t, from, to) -> {
            if (!dtable.add()) for (long v = 0; v < dtable.to().rows(); v++) Moves.fillRow(table + 4 * (v * c + from), 0, to - from);
            for (long n = 0; n < ids.size(); n++) {
                long row = table + 4 * (getInt(ids.address + 4 * n) * c + from);
                Moves.addRow(row, row, dy.address + 4 * (n * c + from), to - from);
            }
        });
    }

    void rmsnorm(Tensor y, Tensor rstd, Tensor x, Tensor gain, float eps) {
        long c = gain.size();
        team.each(x.size() / c, 1, (t, from, to) -> {
            for (long m = from; m < to; m++) {
                long xr = x.address + 4 * m * c, yr = y.address + 4 * m * c;
                float r = (float) (1 / Math.sqrt((double) dot(xr, xr, c) / c + eps));
                put(rstd.address + 4 * m, r);
                long i = 0;
                for (; i + L <= c; i += L) store(yr + 4 * i, load(xr + 4 * i).mul(r).mul(load(gain.address + 4 * i)));
                if (i < c) {
                    VectorMask<Float> k = tail(c - i);
                    store(yr + 4 * i, load(xr + 4 * i, k).mul(r).mul(load(gain.address + 4 * i, k)), k);
                }
            }
        });
    }

    /** One pass over dy and x: rows of dx, and the gain's gradient summed per thread, then over threads in order. */
    void rmsnormBack(Grad dx, Grad dgain, Tensor dy, Tensor x, Tensor gain, Tensor rstd) {
        long c = gain.size(), rows = x.size() / c;
        long sums = dgain.wanted() ? partial(c) : 0;
        team.each(rows, 1, (t, from, to) -> {
            long sum = sums + 4 * t * c;
            for (long m = from; m < to; m++) {
                long at = 4 * m * c;
                float r = get(rstd.address + 4 * m);
                if (dgain.wanted()) gainRow(sum, dy.address + at, x.address + at, r, c);
                if (dx.wanted()) normRowBack(dx.to().address + at, dx.add(), dy.address + at, x.address + at, gain.address, r, c);
            }
        });
        if (dgain.wanted()) Moves.sumRows(dgain.to().address, dgain.add(), sums, team.count(), c, 0, c);
    }

    void rmsScale(Tensor y, Tensor u, Tensor x, Tensor plus, float eps, int power) {
        long U = u.cols(), c = x.cols();
        team.each(u.rows(), 1, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                long at = 4 * n * U, row = x.address + 4 * n * c;
                FloatVector f = of((float) Math.pow((double) dot(row, row, c) / c + eps, 0.5 * power));
                for (long i = 0; i < U; i += L) {
                    VectorMask<Float> k = tail(U - i);
                    FloatVector v = load(u.address + at + 4 * i, k).mul(f);
                    store(y.address + at + 4 * i, plus == null ? v : v.add(load(plus.address + at + 4 * i, k)), k);
                }
            }
        });
    }

    void rmsScaleBack(Grad du, Grad dx, Tensor dy, Tensor u, Tensor x, float eps, int power) {
        long U = u.cols(), c = x.cols();
        team.each(u.rows(), 1, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                long row = x.address + 4 * n * c;
                double square = (double) dot(row, row, c) / c + eps, f = Math.pow(square, 0.5 * power);
                float pull = (float) (power * f / square / c * dot(dy.address + 4 * n * U, u.address + 4 * n * U, U));
                if (du.wanted()) for (long i = 0; i < U; i += L) set(du, n * U + i, load(dy.address + 4 * (n * U + i), tail(U - i)).mul((float) f), tail(U - i));
                if (dx.wanted()) for (long i = 0; i < c; i += L) set(dx, n * c + i, load(row + 4 * i, tail(c - i)).mul(pull), tail(c - i));
            }
        });
    }

    /** A zeroed row of c sums per thread. */
    private long partial(long c) {
        long floats = c * team.count();
        if (floats > partialFloats) {
            if (partial != 0) memory.free(partial);
            partial = memory.allocate("partial sums", 4 * floats);
            partialFloats = floats;
        }
        Moves.fillRow(partial, 0, floats);
        return partial;
    }

    /** sum += dy · x · r */
    private static void gainRow(long sum, long dy, long x, float r, long c) {
        for (long i = 0; i < c; i += L) {
            VectorMask<Float> k = tail(c - i);
            store(sum + 4 * i, load(dy + 4 * i, k).mul(load(x + 4 * i, k)).fma(of(r), load(sum + 4 * i, k)), k);
        }
    }

    private static void normRowBack(long dx, boolean add, long dy, long x, long gain, float r, long c) {
        FloatVector dot = zero();
        long i = 0;
        for (; i + L <= c; i += L) dot = load(dy + 4 * i).mul(load(gain + 4 * i)).fma(load(x + 4 * i), dot);
        if (i < c) {
            VectorMask<Float> k = tail(c - i);
            dot = load(dy + 4 * i, k).mul(load(gain + 4 * i, k)).fma(load(x + 4 * i, k), dot);
        }
        FloatVector vr = of(r), pull = of(-r * r * r * (Lanes.sum(dot) / c));
        for (i = 0; i + L <= c; i += L) {
            FloatVector g = load(dy + 4 * i).mul(load(gain + 4 * i)).mul(vr);
            g = load(x + 4 * i).fma(pull, g);
            store(dx + 4 * i, add ? g.add(load(dx + 4 * i)) : g);
        }
        if (i < c) {
            VectorMask<Float> k = tail(c - i);
            FloatVector g = load(dy + 4 * i, k).mul(load(gain + 4 * i, k)).mul(vr);
            g = load(x + 4 * i, k).fma(pull, g);
            store(dx + 4 * i, add ? g.add(load(dx + 4 * i, k)) : g, k);
        }
    }

    /** Σ a·b over n elements. */
    static float dot(long a, long b, long n) {
        FloatVector s = zero();
        long i = 0;
        for (; i + L <= n; i += L) s = load(a + 4 * i).fma(load(b + 4 * i), s);
        if (i < n) {
            VectorMask<Float> k = tail(n - i);
            s = load(a + 4 * i, k).fma(load(b + 4 * i, k), s);
        }
        return Lanes.sum(s);
    }

    void rope(Tensor y, Tensor x, Tensor table, Tensor positions) {
        turn(y, false, x, table, positions, 1);
    }

    void ropeBack(Grad dx, Tensor dy, Tensor table, Tensor positions) {
        if (dx.wanted()) turn(dx.to(), dx.add(), dy, table, positions, -1);
    }

    /** sign 1 turns forward, −1 back. */
    private void turn(Tensor y, boolean add, Tensor x, Tensor table, Tensor positions, float sign) {
        long half = table.cols(), sines = table.dim(1) * half, c = x.cols();
        team.each(x.rows(), 1, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                long cos = table.address + 4 * getInt(positions.address + 4 * n) * half, sin = cos + 4 * sines;
                for (long h = 0; h < c; h += 2 * half) turnHead(y.address + 4 * (n * c + h), add, x.address + 4 * (n * c + h), cos, sin, sign, half);
            }
        });
    }

    private static void turnHead(long y, boolean add, long x, long cos, long sin, float sign, long half) {
        for (long i = 0; i < half; i += L) {
            VectorMask<Float> k = tail(half - i);
            long low = 4 * i, high = 4 * (i + half);
            FloatVector a = load(x + low, k), b = load(x + high, k), co = load(cos + low, k), si = load(sin + low, k).mul(sign);
            FloatVector ya = a.mul(co).sub(b.mul(si)), yb = b.mul(co).add(a.mul(si));
            store(y + low, add ? ya.add(load(y + low, k)) : ya, k);
            store(y + high, add ? yb.add(load(y + high, k)) : yb, k);
        }
    }

    void swiglu(Tensor y, Tensor gate, Tensor up) {
        team.each(y.size(), L, (t, from, to) -> {
            for (long i = from; i < to; i += L) {
                VectorMask<Float> k = tail(to - i);
                FloatVector g = load(gate.address + 4 * i, k);
                store(y.address + 4 * i, g.mul(Lanes.sigmoid(g)).mul(load(up.address + 4 * i, k)), k);
            }
        });
    }

    void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up) {
        team.each(dy.size(), L, (t, from, to) -> {
            for (long i = from; i < to; i += L) {
                VectorMask<Float> k = tail(to - i);
                FloatVector g = load(gate.address + 4 * i, k), d = load(dy.address + 4 * i, k), s = Lanes.sigmoid(g);
                if (dgate.wanted()) {
                    FloatVector slope = g.mul(of(1f).sub(s)).add(1f).mul(s);
                    set(dgate, i, d.mul(load(up.address + 4 * i, k)).mul(slope), k);
                }
                if (dup.wanted()) set(dup, i, d.mul(g).mul(s), k);
            }
        });
    }

    /** Writes or adds one vector of a gradient. */
    static void set(Grad to, long i, FloatVector v, VectorMask<Float> k) {
        long at = to.to().address + 4 * i;
        store(at, to.add() ? v.add(load(at, k)) : v, k);
    }
}
