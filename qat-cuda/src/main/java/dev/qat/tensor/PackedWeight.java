package dev.qat.tensor;

/**
 * A quantized matrix as it is stored and shipped: ŵ = (code − zero) · step, one step and zero point per group.
 *
 * <p>Codes are a dense little-endian bit stream per row: code i of a row occupies bits [i·bits, (i+1)·bits) of the row's
 * 32-bit words, lowest bit first, the last word padded with zeros. {@code bias} is what a method adds per output channel
 * (null for none).
 *
 * @param words I32 (O, ceil(I·bits/32))
 * @param step  F32 (O, I/G)
 * @param zero  F32 or U8 (O, I/G), whole numbers in [0, 2^bits)
 * @param cols  I, the length of a row in elements
 * @param minimum whether ŵ = code · step + zero instead, {@code zero} being each group's minimum
 * @param quads   whether of every four codes, 0 to 2 about a zero point of 1, just one is 1: a file keeps the four in 5 bits
 */
public record PackedWeight(String name, int bits, int group, long cols, Tensor words, Tensor step, Tensor zero, Tensor bias, boolean minimum, boolean quads) {
    public PackedWeight(String name, int bits, int group, long cols, Tensor words, Tensor step, Tensor zero, Tensor bias) {
        this(name, bits, group, cols, words, step, zero, bias, false);
    }

    public PackedWeight(String name, int bits, int group, long cols, Tensor words, Tensor step, Tensor zero, Tensor bias, boolean minimum) {
        this(name, bits, group, cols, words, step, zero, bias, minimum, false);
    }

    public PackedWeight {
        Fail.unless(1 <= bits && bits <= 8, "%s: %d bits, expected 1 to 8", name, bits);
        Fail.unless(group > 0 && cols % group == 0, "%s: group %d does not divide a row of %d", name, group, cols);
        Fail.unless(words.cols() == wordsPerRow(cols, bits), "%s: %d words a row, expected %d", name, words.cols(), wordsPerRow(cols, bits));
        Fail.unless(step.rows() == words.rows() && step.cols() == cols / group, "%s: steps %s do not fit", name, step);
    }

    /** The same with its parts in other places. */
    public PackedWeight at(Tensor otherWords, Tensor otherStep, Tensor otherZero) {
        return new PackedWeight(name, bits, group, cols, otherWords, otherStep, otherZero, bias, minimum, quads);
    }

    public long rows() {
        return words.rows();
    }

    /** Whether zero points are stored as bytes. */
    public boolean narrow() {
        return zero.type == DType.U8;
    }

    /** 32-bit words that hold one row of codes. */
    public static long wordsPerRow(long cols, int bits) {
        return (cols * bits + 31) / 32;
    }

    /** Bits per weight with an fp16 step and a {@code bits}-wide zero point per group, b + (b + 16) / G; of quads, 5/4 + 16 / G. */
    public double bitsPerWeight() {
        return quads ? 1.25 + 16.0 / group : bits + (bits + 16.0) / group;
    }
}
