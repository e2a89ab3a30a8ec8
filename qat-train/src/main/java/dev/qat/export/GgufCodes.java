package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.data.Gguf;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * The codes of a linear in a GGUF file, whoever wrote it, as a lattice that can train.
 *
 * <pre>
 * Q4_0, Q8_0           zero point 2^(b−1)
 * Q2_0, TQ1_0, TQ2_0   2 bits, zero point 1
 * Q4_1, Q2_K           minima; Q2_K's steps and minima multiplied out
 * </pre>
 *
 * A step may be negative or 0: llama.cpp rounds towards the block's largest weight, whatever its sign.
 */
final class GgufCodes {
    private GgufCodes() {}

    /** Whether a type's blocks are codes of ours. */
    static boolean in(GgmlType type) {
        return type.codes();
    }

    /** @param turned heads whose rows GGUF turned over, see {@link GgufNames#source} */
    static Lattice of(Gguf file, String stored, String linear, int turned) {
        Gguf.Entry e = file.entry(stored);
        GgmlType type = e.type();
        Fail.unless(in(type), "%s is %s, which holds no codes", linear, type);
        int cols = Math.toIntExact(e.ne()[0]), rows = Math.toIntExact(e.ne()[1]), perRow = Math.toIntExact(type.rowBytes(cols));
        boolean two = type == GgmlType.Q2_K, minimum = two || type == GgmlType.Q4_1;
        int bits = type == GgmlType.Q8_0 ? 8 : type == GgmlType.Q4_0 || type == GgmlType.Q4_1 ? 4 : 2, group = two ? 16 : type.elements, groups = cols / group;
        int zero = bits == 2 ? 1 : 1 << bits - 1;
        int[] codes = new int[Math.multiplyExact(rows, cols)];
        float[] step = new float[rows * groups], zeros = new float[step.length];
        MemorySegment bytes = file.bytes(stored);
        byte[] raw = new byte[perRow];
        for (int j = 0; j < rows; j++) {
            int row = GgufNames.source(j, rows, turned);
            MemorySegment.copy(bytes, ValueLayout.JAVA_BYTE, (long) j * perRow, raw, 0, perRow);
            for (int at = 0, i = row * cols, g = row * groups; at < perRow; at += type.bytes, i += type.elements, g += type.elements / group) {
                if (two) {
                    GgmlType.decodeTwoLevels(codes, i, step, zeros, g, raw, at);
                    continue;
                }
                type.whole(codes, i, raw, at);
                for (int k = i; k < i + type.elements && !minimum; k++) codes[k] += zero;
                step[g] = type.step(raw, at);
                zeros[g] = minimum ? type.minimum(raw, at) : zero;
            }
        }
        for (float s : step) if (!Float.isFinite(s)) throw Fail.data("%s: %s has a step of %s; the file is damaged", file.file(), stored, s);
        Lattice l = Lattice.of(linear, bits, group, rows, cols, codes, step, zeros);
        return minimum ? l.minima() : l;
    }
}
