package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.ops.Heads;
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

/**
 * Causal grouped-query attention in tiles of query rows: a tile's scores against the keys it may see live in a scratch of
 * {@link #TILE} × T per thread, never T × T. Products by OpenBLAS straight on the strided heads.
 */
final class Attention {
    /** Query rows per tile: large enough for the products, small enough that little of the masked triangle is computed. */
    private static final int TILE = 64;

    private final Threads team;
    private final HostMemory memory;
    private long[] scratch;
    private long scratchFloats;

    Attention(Threads team, HostMemory memory) {
        this.team = team;
        this.memory = memory;
    }

    /** Two score tiles per thread; grows only when a longer sequence than ever before is seen. */
    private void reserve(int tokens) {
        long floats = 2L * TILE * tokens;
        if (floats <= scratchFloats) return;
        if (scratch != null) for (long a : scratch) memory.free(a);
        scratch = new long[team.count()];
        for (int t = 0; t < scratch.length; t++) scratch[t] = memory.allocate("attention scratch", 4 * floats);
        scratchFloats = floats;
    }

    void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        reserve(h.T());
        team.each((long) h.B() * h.H(), 1, (t, from, to) -> {
            for (long u = from; u < to; u++) forward(scratch[t], (int) (u / h.H()), (int) (u % h.H()), o, lse, q, k, v, h);
        });
    }

    private static void forward(long s, int b, int head, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        long hd = (long) h.H() * h.D(), kd = (long) h.K() * h.D(), row = (long) b * h.T();
        long key = at(k, row, kd, head / (h.H() / h.K()), h.D()), value = at(v, row, kd, head / (h.H() / h.K()), h.D());
        for (int i = 0; i < h.T(); i += TILE) {
            int rows = Math.min(TILE, h.T() - i), cols = i + rows;
            long query = at(q, row + i, hd, head, h.D()), out = at(o, row + i, hd, head, h.D());
            Blas.gemm(false, true, rows, cols, h.D(), scale(h), query, hd, key, kd, 0, s, cols);
            long sums = lse.address + 4 * (((long) b * h.H() + head) * h.T() + i);
            for (int r = 0; r < rows; r++) put(sums + 4L * r, softmaxRow(s + 4L * r * cols, i + r + 1, cols));
            Blas.gemm(false, false, rows, h.D(), cols, 1, s, cols, value, kd, 0, out, hd);
        }
    }

    private static long at(Tensor x, long row, long stride, long head, long d) {
        return x.address + 4 * (row * stride + head * d);
    }

    private static float scale(Heads h) {
        return (float) (1 / Math.sqrt(h.D()));
    }

    /** s[0..n) becomes its softmax, s[n..cols) zero; gives log Σ exp. */
    private static float softmaxRow(long s, int n, int cols) {
        float max = maxOf(s, n);
        FloatVector sum = zero();
        int i = 0;
        for (; i + L <= n; i += L) {
            FloatVector e = Lanes.exp(load(s + 4L * i).sub(max));
            sum = sum.add(e);
            store(s + 4L * i, e);
        }
        if (i < n) {
            VectorMask<Float> k = tail(n - i);
            FloatVector e = zero().blend(Lanes.exp(load(s + 4L * i, k).sub(max)), k);
            sum = sum.add(e);
            store(s + 4L * i, e, k);
        }
        float total = Lanes.sum(sum);
        Moves.scaleRow(s, false, s, 1 / total, n);
        if (n < cols) Moves.fillRow(s + 4L * n, 0, cols - n);
        return (float) (max + Math.log(total));
    }

    static float maxOf(long s, long n) {
        FloatVector m = of(Float.NEGATIVE_INFINITY);
        long i = 0;
        for (; i + L <= n; i += L) m = m.max(load(s + 4 * i));
        float best = Lanes.max(m);
        for (; i < n; i++) best = Math.max(best, get(s + 4 * i));
        return best;
    }

    void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        reserve(h.T());
        team.each((long) h.B() * h.K(), 1, (t, from, to) -> {
            for (long u = from; u < to; u++) {
                int b = (int) (u / h.K()), kv = (int) (u % h.K());
                clear(dk, b, kv, h);
                clear(dv, b, kv, h);
                int group = h.H() / h.K();
                for (int head = kv * group; head < (kv + 1) * group; head++) {
                    backward(scratch[t], b, head, dq, dk, dv, delta, dy, o, lse, q, k, v, h);
                }
            }
        });
    }

    /** A gradient that is to be written starts at zero, so that every tile may add. */
    private static void clear(Grad d, int b, int kv, Heads h) {
        if (!d.wanted() || d.add()) return;
        long kd = (long) h.K() * h.D();
        for (int i = 0; i < h.T(); i++) Moves.fillRow(at(d.to(), (long) b * h.T() + i, kd, kv, h.D()), 0, h.D());
    }

    private static void backward(long s, int b, int head, Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse,
                                 Tensor q, Tensor k, Tensor v, Heads h) {
        long hd = (long) h.H() * h.D(), kd = (long) h.K() * h.D(), row = (long) b * h.T();
        int kv = head / (h.H() / h.K());
        long key = at(k, row, kd, kv, h.D()), value = at(v, row, kd, kv, h.D());
        for (int i = 0; i < h.T(); i += TILE) {
            int rows = Math.min(TILE, h.T() - i), cols = i + rows;
            long query = at(q, row + i, hd, head, h.D()), out = at(o, row + i, hd, head, h.D()), dout = at(dy, row + i, hd, head, h.D());
            long p = s, dp = s + 4L * TILE * h.T(), stat = 4 * (((long) b * h.H() + head) * h.T() + i);
            Blas.gemm(false, true, rows, cols, h.D(), scale(h), query, hd, key, kd, 0, p, cols);
            Blas.gemm(false, true, rows, cols, h.D(), 1, dout, hd, value, kd, 0, dp, cols);
            for (int r = 0; r < rows; r++) {
                float d = Layers.dot(dout + 4 * r * hd, out + 4 * r * hd, h.D());
                put(delta.address + stat + 4L * r, d);
                scoreRowBack(p + 4L * r * cols, dp + 4L * r * cols, get(lse.address + stat + 4L * r), d, scale(h), i + r + 1, cols);
            }
            if (dv.wanted()) Blas.gemm(true, false, cols, h.D(), rows, 1, p, cols, dout, hd, 1, at(dv.to(), row, kd, kv, h.D()), kd);
            if (dk.wanted()) Blas.gemm(true, false, cols, h.D(), rows, 1, dp, cols, query, hd, 1, at(dk.to(), row, kd, kv, h.D()), kd);
            if (dq.wanted()) Blas.gemm(false, false, rows, h.D(), cols, 1, dp, cols, key, kd, dq.add() ? 1 : 0, at(dq.to(), row + i, hd, head, h.D()), hd);
        }
    }

    /** p = exp(s − lse) and ds = p · (dp − delta) · scale over the first n columns; zero beyond. */
    private static void scoreRowBack(long p, long dp, float lse, float delta, float scale, int n, int cols) {
        for (int i = 0; i < n; i += L) {
            VectorMask<Float> k = tail(n - i);
            FloatVector e = Lanes.exp(load(p + 4L * i, k).sub(lse));
            store(p + 4L * i, e, k);
            store(dp + 4L * i, load(dp + 4L * i, k).sub(delta).mul(e).mul(scale), k);
        }
        if (n == cols) return;
        Moves.fillRow(p + 4L * n, 0, cols - n);
        Moves.fillRow(dp + 4L * n, 0, cols - n);
    }

    void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads h) {
        reserve(h.T());
        int group = h.H() / h.K();
        long kd = (long) h.K() * h.D();
        team.each((long) h.B() * h.H(), 1, (t, from, to) -> {
            for (long u = from; u < to; u++) {
                int b = (int) (u / h.H()), head = (int) (u % h.H()), n = getInt(lengths.address + 4L * b);
                long query = q.address + 4 * u * h.D(), out = o.address + 4 * u * h.D(), s = scratch[t];
                long key = at(k, (long) b * h.T(), kd, head / group, h.D()), value = at(v, (long) b * h.T(), kd, head / group, h.D());
                for (int j = 0; j < n; j++) put(s + 4L * j, scale(h) * Layers.dot(query, key + 4 * j * kd, h.D()));
                softmaxRow(s, n, n);
                Moves.fillRow(out, 0, h.D());
                for (int j = 0; j < n; j++) Moves.scaleRow(out, true, value + 4 * j * kd, get(s + 4L * j), h.D());
            }
        });
    }

    void cacheWrite(Tensor cache, Tensor x, Tensor positions) {
        long c = x.cols(), tmax = cache.dim(1);
        for (long b = 0; b < x.rows(); b++) {
            Moves.copyRow(cache.address + 4 * (b * tmax + getInt(positions.address + 4 * b)) * c, x.address + 4 * b * c, c);
        }
    }

    void close() {
        if (scratch != null) for (long a : scratch) memory.free(a);
    }
}
