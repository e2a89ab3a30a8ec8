package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.ops.Heads;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

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
 * {@link #TILE} × T per thread, never T × T. Keys and values are transposed once per head and products go in pieces of at most
 * {@link #SPAN} keys, since OpenBLAS multiplies small plain matrices half as fast again as large or transposed ones.
 */
final class Attention {
    /** Query rows per tile: large enough for the products, small enough that little of the masked triangle is computed. */
    private static final int TILE = 64;
    /** Keys per product: TILE · SPAN · D stays under the million where OpenBLAS uses its kernels for small matrices. */
    private static final int SPAN = 128;

    private final Threads team;
    private final HostMemory memory;
    private long[] scratch;
    private long scratchFloats;

    Attention(Threads team, HostMemory memory) {
        this.team = team;
        this.memory = memory;
    }

    /** Two score tiles and two transposed heads per thread; grows only when a longer sequence than ever before is seen. */
    private void reserve(Heads h) {
        long floats = 2L * (TILE + h.D()) * h.T();
        if (floats <= scratchFloats) return;
        if (scratch != null) for (long a : scratch) memory.free(a);
        scratch = new long[team.count()];
        for (int t = 0; t < scratch.length; t++) scratch[t] = memory.allocate("attention scratch", 4 * floats);
        scratchFloats = floats;
    }

    void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        reserve(h);
        team.each((long) h.B() * h.H(), 1, (t, from, to) -> {
            for (long u = from; u < to; u++) forward(scratch[t], (int) (u / h.H()), (int) (u % h.H()), o, lse, q, k, v, h);
        });
    }

    private static void forward(long s, int b, int head, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        long hd = (long) h.H() * h.D(), kd = (long) h.K() * h.D(), row = (long) b * h.T();
        int kv = head / (h.H() / h.K());
        long value = at(v, row, kd, kv, h.D()), keys = s + 4L * TILE * h.T();
        // query heads that share a key head come one after the other, mostly on one thread
        Blas.transpose(keys, h.T(), at(k, row, kd, kv, h.D()), kd, h.T(), h.D());
        for (int i = 0; i < h.T(); i += TILE) {
            int rows = Math.min(TILE, h.T() - i), cols = i + rows;
            long query = at(q, row + i, hd, head, h.D()), out = at(o, row + i, hd, head, h.D());
            scores(s, query, hd, keys, rows, cols, h, scale(h));
            long sums = lse.address + 4 * (((long) b * h.H() + head) * h.T() + i);
            for (int r = 0; r < rows; r++) put(sums + 4L * r, softmaxRow(s + 4L * r * cols, i + r + 1, cols));
            weigh(out, hd, s, value, kd, rows, cols, h.D(), 0);
        }
    }

    /** s = scale · x · kᵀ for a tile of rows.   x (rows, D) strided  kt (D, T)  s (rows, cols) */
    private static void scores(long s, long x, long stride, long kt, int rows, int cols, Heads h, float scale) {
        for (int j = 0; j < cols; j += SPAN) {
            Blas.gemm(false, false, rows, Math.min(SPAN, cols - j), h.D(), scale, x, stride, kt + 4L * j, h.T(), 0, s + 4L * j, cols);
        }
    }

    /** y = p · x + beta · y for a tile of rows.   p (rows, cols)  x (cols, D) strided  y (rows, D) strided */
    private static void weigh(long y, long ystride, long p, long x, long xstride, int rows, int cols, int D, float beta) {
        for (int j = 0; j < cols; j += SPAN) {
            Blas.gemm(false, false, rows, D, Math.min(SPAN, cols - j), 1, p + 4L * j, cols, x + 4 * j * xstride, xstride, j == 0 ? beta : 1, y, ystride);
        }
    }

    /** y += pᵀ · x.   p (rows, cols)  x (rows, D) strided  y (cols, D) strided */
    private static void scatter(long y, long ystride, long p, long x, long xstride, int rows, int cols, int D) {
        for (int j = 0; j < cols; j += SPAN) {
            Blas.gemm(true, false, Math.min(SPAN, cols - j), D, rows, 1, p + 4L * j, cols, x, xstride, 1, y + 4 * j * ystride, ystride);
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
        for (int i = 0; i < n; i += L) {
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
        for (; i + L <= n; i += L) {
            FloatVector v = load(s + 4 * i);
            // not "less or equal": NaN takes the place and stays
            m = m.blend(v, v.compare(VectorOperators.LE, m).not());
        }
        float best = Lanes.max(m);
        for (; i < n; i++) best = Math.max(best, get(s + 4 * i));
        return best;
    }

    void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        reserve(h);
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
        long key = at(k, row, kd, kv, h.D()), p = s, dp = p + 4L * TILE * h.T(), keys = dp + 4L * TILE * h.T(), values = keys + 4L * h.D() * h.T();
        Blas.transpose(keys, h.T(), key, kd, h.T(), h.D());
        Blas.transpose(values, h.T(), at(v, row, kd, kv, h.D()), kd, h.T(), h.D());
        for (int i = 0; i < h.T(); i += TILE) {
            int rows = Math.min(TILE, h.T() - i), cols = i + rows;
            long query = at(q, row + i, hd, head, h.D()), out = at(o, row + i, hd, head, h.D()), dout = at(dy, row + i, hd, head, h.D());
            long stat = 4 * (((long) b * h.H() + head) * h.T() + i);
            scores(p, query, hd, keys, rows, cols, h, scale(h));
            scores(dp, dout, hd, values, rows, cols, h, 1);
            for (int r = 0; r < rows; r++) {
                float d = Layers.dot(dout + 4 * r * hd, out + 4 * r * hd, h.D());
                put(delta.address + stat + 4L * r, d);
                scoreRowBack(p + 4L * r * cols, dp + 4L * r * cols, get(lse.address + stat + 4L * r), d, scale(h), i + r + 1, cols);
            }
            if (dv.wanted()) scatter(at(dv.to(), row, kd, kv, h.D()), kd, p, dout, hd, rows, cols, h.D());
            if (dk.wanted()) scatter(at(dk.to(), row, kd, kv, h.D()), kd, dp, query, hd, rows, cols, h.D());
            if (dq.wanted()) weigh(at(dq.to(), row + i, hd, head, h.D()), hd, dp, key, kd, rows, cols, h.D(), dq.add() ? 1 : 0);
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
        reserve(h);
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
