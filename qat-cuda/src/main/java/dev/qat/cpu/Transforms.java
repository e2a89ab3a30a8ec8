package dev.qat.cpu;

import dev.qat.ops.Channels;
import dev.qat.ops.Grad;
import dev.qat.ops.Mix;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;

/** Scales per channel, Hadamard rotations and matrices of heads: rows or heads shared out over the team. */
final class Transforms {
    private final Threads team;
    private final HostMemory memory;
    /** A row of sums per thread, a row of factors and one for rotations; grows only when wider channels than ever before are seen. */
    private long scratch, scratchFloats;

    Transforms(Threads team, HostMemory memory) {
        this.team = team;
        this.memory = memory;
    }

    void close() {
        if (scratch != 0) memory.free(scratch);
    }

    private long scratch(long floats) {
        if (floats > scratchFloats) {
            close();
            scratch = memory.allocate("partial sums", 4 * floats);
            scratchFloats = floats;
        }
        return scratch;
    }

    private static void factors(long to, Tensor tau, Channels how, int c) {
        for (int j = 0; j < c; j++) put(to + 4L * j, (float) Math.exp(how.power() * get(tau.address + 4L * how.of(j))));
    }

    void channelScale(Tensor y, Tensor x, Tensor tau, Channels how) {
        int c = Math.toIntExact(x.cols());
        long factor = scratch(c);
        factors(factor, tau, how, c);
        team.each(x.rows(), 1, (t, from, to) -> {
            for (long n = from; n < to; n++) {
                for (long i = 0; i < c; i += L) {
                    VectorMask<Float> k = tail(c - i);
                    store(y.address + 4 * (n * c + i), load(x.address + 4 * (n * c + i), k).mul(load(factor + 4 * i, k)), k);
                }
            }
        });
    }

    /** Each thread sums its rows per channel; the threads' sums are added in order, then the channels that share a scale. */
    void channelScaleBack(Grad dx, Grad dtau, Tensor dy, Tensor x, Tensor tau, Channels how) {
        int c = Math.toIntExact(x.cols()), threads = team.count();
        long sums = scratch((long) c * (threads + 1)), factor = sums + 4L * c * threads;
        factors(factor, tau, how, c);
        Moves.fillRow(sums, 0, (long) c * threads);
        team.each(x.rows(), 1, (t, from, to) -> {
            long sum = sums + 4L * c * t;
            for (long n = from; n < to; n++) {
                for (long i = 0; i < c; i += L) {
                    VectorMask<Float> k = tail(c - i);
                    FloatVector d = load(dy.address + 4 * (n * c + i), k).mul(load(factor + 4 * i, k));
                    store(sum + 4 * i, d.fma(load(x.address + 4 * (n * c + i), k), load(sum + 4 * i, k)), k);
                    if (dx.wanted()) Layers.set(dx, n * c + i, d, k);
                }
            }
        });
        if (!dtau.wanted()) return;
        Moves.sumRows(sums, false, sums, threads, c, 0, c);
        long out = dtau.to().address;
        if (!dtau.add()) Moves.fillRow(out, 0, tau.size());
        for (int j = 0; j < c; j++) {
            long at = out + 4L * how.of(j);
            put(at, get(at) + how.power() * get(sums + 4L * j));
        }
    }

    void hadamard(Tensor y, Tensor x, int size, int apart) {
        rotate(new Grad(y, false), x, size, apart);
    }

    void hadamardBack(Grad dx, Tensor dy, int size, int apart) {
        if (dx.wanted()) rotate(dx, dy, size, apart);
    }

    /** A product per head; one for all rows where every row holds one value of it. */
    void mixHeads(Grad y, Tensor x, Tensor m, Mix how) {
        long D = m.cols(), Q = how.inner(), H = how.heads(m), P = how.outer(x, m), to = y.to().address, row = H * D;
        float beta = y.add() ? 1 : 0;
        boolean t = how.transposed();
        team.each(Q == 1 ? H : P * H, 1, (thread, first, last) -> {
            for (long n = first; n < last; n++) {
                long k = m.address + 4 * (n % H / how.repeat() * D * D), at = 4 * n * D * Q;
                if (Q == 1) Blas.gemm(false, !t, P, D, D, 1, x.address + at, row, k, D, beta, to + at, row);
                else Blas.gemm(t, false, D, Q, D, 1, k, D, x.address + at, Q, beta, to + at, Q);
            }
        });
    }

    /** Threads share out matrices, each the sum over its heads in order. */
    void mixHeadsBack(Grad dx, Grad dm, Tensor dy, Tensor x, Tensor m, Mix how) {
        if (dx.wanted()) mixHeads(dx, dy, m, how.back());
        if (!dm.wanted()) return;
        long D = m.cols(), Q = how.inner(), H = how.heads(m), P = how.outer(x, m), row = H * D, outer = Q == 1 ? 1 : P;
        long left = how.transposed() ? x.address : dy.address, right = how.transposed() ? dy.address : x.address;
        team.each(m.rows() / D, 1, (thread, first, last) -> {
            for (long k = first; k < last; k++) {
                float beta = dm.add() ? 1 : 0;
                for (long p = 0; p < outer; p++) {
                    for (long h = k * how.repeat(); h < (k + 1) * how.repeat(); h++, beta = 1) {
                        long at = 4 * (p * H + h) * D * Q, to = dm.to().address + 4 * k * D * D;
                        if (Q == 1) Blas.gemm(true, false, D, D, P, 1, left + at, row, right + at, row, beta, to, D);
                        else Blas.gemm(false, true, D, D, Q, 1, left + at, Q, right + at, Q, beta, to, D);
                    }
                }
            }
        });
    }

    /** The fast Walsh-Hadamard transform: log₂ size rounds of (a, b) → (a + b, a − b). */
    private void rotate(Grad y, Tensor x, int size, int apart) {
        int span = size * apart;
        long rows = scratch((long) span * team.count());
        float norm = (float) (1 / Math.sqrt(size));
        team.each(x.size() / span, 1, (t, from, to) -> {
            long row = rows + 4L * span * t;
            for (long n = from; n < to; n++) {
                Moves.copyRow(row, x.address + 4 * n * span, span);
                for (int h = apart; h < span; h *= 2) round(row, span, h);
                Moves.scaleRow(y.to().address + 4 * n * span, y.add(), row, norm, span);
            }
        });
    }

    private static void round(long row, int span, int h) {
        for (int block = 0; block < span; block += 2 * h) {
            long a = row + 4L * block, b = a + 4L * h;
            int i = 0;
            for (; i + L <= h; i += L) {
                FloatVector left = load(a + 4L * i), right = load(b + 4L * i);
                store(a + 4L * i, left.add(right));
                store(b + 4L * i, left.sub(right));
            }
            for (; i < h; i++) {
                float left = get(a + 4L * i), right = get(b + 4L * i);
                put(a + 4L * i, left + right);
                put(b + 4L * i, left - right);
            }
        }
    }
}
