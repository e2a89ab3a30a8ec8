package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.of;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;
import static dev.qat.cpu.Lanes.zero;

/** Moving, adding and summing fp32 rows. */
final class Moves {
    /** Elements summed in fp32 lanes before the sum is carried on in double. */
    private static final int BLOCK = 4096;

    private final Threads team;
    private final double[] partial;

    Moves(Threads team) {
        this.team = team;
        this.partial = new double[team.count() * 8];
    }

    static void copyRow(long y, long x, long n) {
        MemorySegment.copy(HostMemory.ALL, x, HostMemory.ALL, y, 4 * n);
    }

    /** y = a + b */
    static void addRow(long y, long a, long b, long n) {
        long i = 0;
        for (; i + L <= n; i += L) store(y + 4 * i, load(a + 4 * i).add(load(b + 4 * i)));
        if (i < n) {
            var m = tail(n - i);
            store(y + 4 * i, load(a + 4 * i, m).add(load(b + 4 * i, m)), m);
        }
    }

    /** y (+)= s · x */
    static void scaleRow(long y, boolean add, long x, float s, long n) {
        long i = 0;
        FloatVector vs = of(s);
        for (; i + L <= n; i += L) {
            FloatVector v = load(x + 4 * i).mul(vs);
            store(y + 4 * i, add ? v.add(load(y + 4 * i)) : v);
        }
        for (; i < n; i++) put(y + 4 * i, add ? get(x + 4 * i) * s + get(y + 4 * i) : get(x + 4 * i) * s);
    }

    static void fillRow(long y, float v, long n) {
        long i = 0;
        for (; i + L <= n; i += L) store(y + 4 * i, of(v));
        for (; i < n; i++) put(y + 4 * i, v);
    }

    /** y[from..to) (+)= Σ over rows of x[row][from..to), rows in order. */
    static void sumRows(long y, boolean add, long x, long rows, long cols, long from, long to) {
        for (long c = from; c < to; c += L) {
            var m = tail(to - c);
            FloatVector sum = add ? load(y + 4 * c, m) : zero();
            for (long r = 0; r < rows; r++) sum = sum.add(load(x + 4 * (r * cols + c), m));
            store(y + 4 * c, sum, m);
        }
    }

    void copy(Tensor y, Tensor x) {
        team.each(x.size(), BLOCK, (t, from, to) -> copyRow(y.address + 4 * from, x.address + 4 * from, to - from));
    }

    void fill(Tensor y, float v) {
        team.each(y.size(), BLOCK, (t, from, to) -> fillRow(y.address + 4 * from, v, to - from));
    }

    void add(Tensor y, Tensor a, Tensor b) {
        team.each(y.size(), BLOCK, (t, from, to) -> addRow(y.address + 4 * from, a.address + 4 * from, b.address + 4 * from, to - from));
    }

    void scale(Tensor y, boolean add, Tensor x, float s) {
        team.each(y.size(), BLOCK, (t, from, to) -> scaleRow(y.address + 4 * from, add, x.address + 4 * from, s, to - from));
    }

    void accumulate(Grad dx, Tensor dy, float s) {
        if (!dx.wanted()) return;
        if (s == 1 && !dx.add()) copy(dx.to(), dy);
        else scale(dx.to(), dx.add(), dy, s);
    }

    double sum(Tensor x) {
        return total(x.size(), (from, n) -> {
            FloatVector s = zero();
            long i = 0, at = x.address + 4 * from;
            for (; i + L <= n; i += L) s = s.add(load(at + 4 * i));
            if (i < n) s = s.add(load(at + 4 * i, tail(n - i)));
            return Lanes.sum(s);
        });
    }

    double squares(Tensor x) {
        return total(x.size(), (from, n) -> {
            FloatVector s = zero();
            long i = 0, at = x.address + 4 * from;
            for (; i + L <= n; i += L) {
                FloatVector v = load(at + 4 * i);
                s = v.fma(v, s);
            }
            if (i < n) {
                FloatVector v = load(at + 4 * i, tail(n - i));
                s = v.fma(v, s);
            }
            return Lanes.sum(s);
        });
    }

    /** One block's contribution to a sum. */
    @FunctionalInterface
    interface Block {
        float sum(long from, long n);
    }

    /** Blocks are summed in fp32 lanes, their sums in double: per thread in order, then over threads in order. */
    double total(long size, Block block) {
        java.util.Arrays.fill(partial, 0);
        team.each(size, BLOCK, (t, from, to) -> {
            double s = 0;
            for (long i = from; i < to; i += BLOCK) s += block.sum(i, Math.min(BLOCK, to - i));
            partial[8 * t] = s;
        });
        double s = 0;
        for (int t = 0; t < team.count(); t++) s += partial[8 * t];
        return s;
    }
}
