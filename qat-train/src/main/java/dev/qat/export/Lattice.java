package dev.qat.export;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

/**
 * A {@link PackedWeight} on the host: ŵ = (code − zero) · step, one step and zero point per group; with a minimum
 * ŵ = code · step + zero.
 *
 * @param words (O · ceil(I·bits/32)) a dense little-endian bit stream of codes per row
 * @param step  (O · I/G)
 * @param zero  (O · I/G) whole numbers, or each group's minimum
 * @param bias  (O) what a method adds per output, or null
 */
public record Lattice(String name, int bits, int group, int rows, int cols, int[] words, float[] step, float[] zero, float[] bias, boolean minimum) {
    public Lattice(String name, int bits, int group, int rows, int cols, int[] words, float[] step, float[] zero, float[] bias) {
        this(name, bits, group, rows, cols, words, step, zero, bias, false);
    }

    public Lattice {
        Fail.unless(group > 0 && cols % group == 0, "%s: group %d does not divide a row of %d", name, group, cols);
        Fail.unless(words.length == (long) rows * PackedWeight.wordsPerRow(cols, bits), "%s: %d words do not fit", name, words.length);
        Fail.unless(step.length == (long) rows * (cols / group) && zero.length == step.length, "%s: %d steps do not fit", name, step.length);
    }

    /** A copy of what lies in a device's memory. */
    public static Lattice of(PackedWeight p, Memory memory) {
        return new Lattice(p.name(), p.bits(), p.group(), Math.toIntExact(p.rows()), Math.toIntExact(p.cols()), memory.ints(p.words()),
                memory.floats(p.step()), memory.floats(p.zero()), p.bias() == null ? null : memory.floats(p.bias()), p.minimum());
    }

    /** From codes, one row after the other.   codes (O · I) */
    public static Lattice of(String name, int bits, int group, int rows, int cols, int[] codes, float[] step, float[] zero) {
        int perRow = Math.toIntExact(PackedWeight.wordsPerRow(cols, bits));
        int[] words = new int[Math.multiplyExact(rows, perRow)];
        for (int r = 0; r < rows; r++) BitStream.pack(words, r * perRow, codes, r * cols, cols, bits);
        return new Lattice(name, bits, group, rows, cols, words, step, zero, null);
    }

    /** Puts it into a device's memory, as something to train or to run from. */
    public PackedWeight upload(Memory memory) {
        Tensor w = memory.tensor(name + ".codes", DType.I32, rows, wordsPerRow());
        Tensor s = memory.tensor(name + ".step", rows, groups()), z = memory.tensor(name + ".zero", rows, groups());
        memory.set(w, words);
        memory.set(s, step);
        memory.set(z, zero);
        Tensor b = bias == null ? null : memory.tensor(name + ".bias", rows);
        if (b != null) memory.set(b, bias);
        return new PackedWeight(name, bits, group, cols, w, s, z, b, minimum);
    }

    public int groups() {
        return cols / group;
    }

    int wordsPerRow() {
        return words.length / rows;
    }

    /** The codes of a row.   codes (I) */
    public void codes(int[] codes, int row) {
        BitStream.unpack(codes, 0, words, row * wordsPerRow(), cols, bits);
    }

    /** The whole numbers code − zero of a row.   q (I) */
    public void whole(int[] q, int row) {
        Fail.unless(!minimum, "%s has minima, and its codes no zero point", name);
        codes(q, row);
        for (int i = 0; i < cols; i++) q[i] -= (int) zero[row * groups() + i / group];
    }

    /** The weights of a row with other steps, such as rounded ones.   w (I), steps (O · I/G) */
    public void weights(float[] w, int row, float[] steps) {
        int[] q = new int[cols];
        if (minimum) codes(q, row);
        else whole(q, row);
        for (int i = 0; i < cols; i++) {
            int g = row * groups() + i / group;
            w[i] = minimum ? q[i] * steps[g] + zero[g] : q[i] * steps[g];
        }
    }

    /** Whether every zero point is 2^(bits − 1). */
    public boolean symmetric() {
        if (minimum) return false;
        for (float z : zero) if (z != 1 << bits - 1) return false;
        return true;
    }

    /** The same weights with more bits for every code. */
    public Lattice widened(int more) {
        if (more == bits) return this;
        Fail.unless(more > bits && more <= 8, "%s: %d bits cannot become %d", name, bits, more);
        int[] codes = new int[Math.multiplyExact(rows, cols)], row = new int[cols];
        for (int r = 0; r < rows; r++) {
            codes(row, r);
            System.arraycopy(row, 0, codes, r * cols, cols);
        }
        Lattice wide = of(name, more, group, rows, cols, codes, step, zero);
        return new Lattice(name, more, group, rows, cols, wide.words, step, zero, bias, minimum);
    }

    /** The same numbers, the zero points read as minima. */
    Lattice minima() {
        return new Lattice(name, bits, group, rows, cols, words, step, zero, bias, true);
    }

    /** The same weights with other steps. */
    Lattice with(float[] steps) {
        return new Lattice(name, bits, group, rows, cols, words, steps, zero, bias, minimum);
    }
}
