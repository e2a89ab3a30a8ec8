package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.RowGrid;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;

/** Keys and values kept as integers with a scale per token, or for each of its M heads, as rowQuant makes them. */
final class ReferenceCache {
    private ReferenceCache() {}

    static void pack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid) {
        long M = grid.parts(scales), C = x.cols() / M, Tmax = codes.dim(1), words = codes.cols() / M;
        for (long n = 0; n < x.rows() * M; n++) {
            int t = HostMemory.getInt(positions, n / M);
            Fail.unless(0 <= t && t < Tmax, "position %d of sequence %d is outside %s", t, n / M, codes);
            long row = (n / M * Tmax + t) * M + n % M;
            for (long w = 0; w < words; w++) HostMemory.putInt(codes, row * words + w, 0);
            if (grid.symmetric()) symmetric(codes, words, scales, row, x, n * C, C, grid.bits());
            else asymmetric(codes, words, scales, row, x, n * C, C, grid.bits());
        }
    }

    /** s = top/(max|x| + 1e-6);  code = rint(x·s) + 2^(b−1) */
    private static void symmetric(Tensor codes, long words, Tensor scales, long row, Tensor x, long from, long C, int bits) {
        float most = 0;
        for (long i = from; i < from + C; i++) most = Math.max(most, Math.abs(get(x, i)));
        float s = ((1 << bits - 1) - 1) / (most + 1e-6f);
        put(scales, row, s);
        for (long i = 0; i < C; i++) putCode(codes, row * words, i, bits, (int) Math.rint(get(x, from + i) * s) + (1 << bits - 1));
    }

    /** r = max − min + 1e-8;  code = rint((x − min)/r · top) */
    private static void asymmetric(Tensor codes, long words, Tensor scales, long row, Tensor x, long from, long C, int bits) {
        float min = get(x, from), max = min, top = (1 << bits) - 1;
        for (long i = from; i < from + C; i++) {
            min = Math.min(min, get(x, i));
            max = Math.max(max, get(x, i));
        }
        float range = max - min + 1e-8f;
        put(scales, 2 * row, range);
        put(scales, 2 * row + 1, min);
        for (long i = 0; i < C; i++) putCode(codes, row * words, i, bits, (int) Math.rint((get(x, from + i) - min) / range * top));
    }

    private static void putCode(Tensor codes, long word, long i, int bits, int code) {
        for (int bit = 0; bit < bits; bit++) {
            long at = word * 32 + i * bits + bit;
            HostMemory.putInt(codes, at / 32, HostMemory.getInt(codes, at / 32) | (code >>> bit & 1) << at % 32);
        }
    }

    static void unpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid) {
        long M = grid.parts(scales), C = y.cols() / M, Tmax = y.dim(1), words = codes.cols() / M;
        for (long b = 0; b < lengths.size(); b++) {
            for (long row = b * Tmax * M; row < (b * Tmax + HostMemory.getInt(lengths, b)) * M; row++) {
                for (long i = 0; i < C; i++) {
                    int code = 0;
                    for (int bit = 0; bit < grid.bits(); bit++) {
                        long at = row * words * 32 + i * grid.bits() + bit;
                        code |= (HostMemory.getInt(codes, at / 32) >>> at % 32 & 1) << bit;
                    }
                    put(y, row * C + i, grid.symmetric() ? (code - (1 << grid.bits() - 1)) / (get(scales, row) + 1e-6f)
                            : (float) code / ((1 << grid.bits()) - 1) * get(scales, 2 * row) + get(scales, 2 * row + 1));
                }
            }
        }
    }
}
