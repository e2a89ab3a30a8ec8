package dev.qat.cpu;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.getInt;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;

import dev.qat.ops.RowGrid;
import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;

/** Keys and values kept as integers with a scale per token, or for each of its M heads; one is one thread's, so few that packing needs no lanes. */
final class IntegerCache {
    private final Threads team;

    IntegerCache(Threads team) {
        this.team = team;
    }

    void pack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid) {
        long m = grid.parts(scales), c = x.cols() / m, tmax = codes.dim(1), words = codes.cols() / m;
        int bits = grid.bits(), half = 1 << bits - 1;
        team.each(x.rows() * m, 1, (id, from, to) -> {
            for (long n = from; n < to; n++) {
                long row = (n / m * tmax + getInt(positions.address + 4 * (n / m))) * m + n % m, in = x.address + 4 * n * c, out = codes.address + 4 * row * words;
                float lo = Float.POSITIVE_INFINITY, hi = Float.NEGATIVE_INFINITY;
                for (long i = 0; i < c; i++) {
                    lo = Math.min(lo, get(in + 4 * i));
                    hi = Math.max(hi, get(in + 4 * i));
                }
                float s = (half - 1) / (Math.max(-lo, hi) + 1e-6f), range = hi - lo + 1e-8f, top = (1 << bits) - 1;
                if (grid.symmetric()) {
                    put(scales.address + 4 * row, s);
                } else {
                    put(scales.address + 8 * row, range);
                    put(scales.address + 8 * row + 4, lo);
                }
                for (long w = 0; w < words; w++) Lanes.putInt(out + 4 * w, 0);
                for (long i = 0; i < c; i++) {
                    float v = get(in + 4 * i);
                    int code = grid.symmetric() ? (int) Math.rint(v * s) + half : (int) Math.rint((v - lo) / range * top);
                    Codes.set(out, i, bits, code & (1 << bits) - 1);
                }
            }
        });
    }

    void unpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid) {
        long m = grid.parts(scales), c = y.cols() / m, tmax = y.dim(1), words = codes.cols() / m;
        int bits = grid.bits(), half = 1 << bits - 1, top = (1 << bits) - 1;
        team.each(lengths.size(), 1, (id, from, to) -> {
            for (long b = from; b < to; b++) {
                int n = getInt(lengths.address + 4 * b);
                for (long row = b * tmax * m; row < (b * tmax + n) * m; row++) {
                    long in = codes.address + 4 * row * words;
                    for (long i = 0; i < c; i += L) {
                        FloatVector q = Codes.load(in, i, bits, words);
                        FloatVector v = grid.symmetric() ? q.sub(half).div(get(scales.address + 4 * row) + 1e-6f)
                                : q.div(top).mul(get(scales.address + 8 * row)).add(get(scales.address + 8 * row + 4));
                        store(y.address + 4 * (row * c + i), v, tail(c - i));
                    }
                }
            }
        });
    }
}
