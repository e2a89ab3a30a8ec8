package dev.qat.export;

import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;

/**
 * Ternary codes of which every four neighbours hold one 0 (Sherry), 5 bits for the four: 4 places × 2³ signs = 32 patterns, 1.25 bits a weight.
 *
 * <p>Bits 0 and 1 say which of the four stands for 0, bits 2 to 4 whether the others, in order, are +1 (code 2) or −1 (code 0). Patterns
 * follow one another in a row's words as any other codes do.
 */
final class Quads {
    private static final int BITS = 5, ZERO = 1, PLUS = 2;

    private Quads() {}

    /** 32-bit words that hold one row of so many codes. */
    static long wordsPerRow(long cols) {
        return PackedWeight.wordsPerRow(cols / 4, BITS);
    }

    /** All rows of a lattice of codes 0, 1 and 2. → (O · words) */
    static int[] pack(Lattice l) {
        int perRow = Math.toIntExact(wordsPerRow(l.cols()));
        int[] words = new int[l.rows() * perRow], codes = new int[l.cols()], patterns = new int[l.cols() / 4];
        for (int r = 0; r < l.rows(); r++) {
            l.codes(codes, r);
            for (int q = 0; q < patterns.length; q++) patterns[q] = pattern(codes, 4 * q, l.name());
            BitStream.pack(words, r * perRow, patterns, 0, patterns.length, BITS);
        }
        return words;
    }

    private static int pattern(int[] codes, int from, String name) {
        int zero = -1, signs = 0, others = 0;
        for (int k = 0; k < 4; k++) {
            int code = codes[from + k];
            if (code == ZERO && zero < 0) zero = k;
            else if (code == ZERO || code > PLUS) others = 4; // a second zero, or no trit
            else signs |= code >> 1 << others++;
        }
        Fail.unless(others == 3, "%s: codes %d, %d, %d, %d from %d on are not three signs and a zero", name, codes[from], codes[from + 1], codes[from + 2], codes[from + 3], from);
        return zero | signs << 2;
    }

    /** The codes again, one row after the other. → (O · I) */
    static int[] unpack(int[] words, int rows, int cols) {
        int perRow = Math.toIntExact(wordsPerRow(cols));
        int[] codes = new int[Math.multiplyExact(rows, cols)], patterns = new int[cols / 4];
        for (int r = 0; r < rows; r++) {
            BitStream.unpack(patterns, 0, words, r * perRow, patterns.length, BITS);
            for (int q = 0; q < patterns.length; q++) {
                int at = r * cols + 4 * q, signs = patterns[q] >> 2;
                for (int k = 0; k < 4; k++) {
                    if (k == (patterns[q] & 3)) {
                        codes[at + k] = ZERO;
                    } else {
                        codes[at + k] = (signs & 1) * PLUS;
                        signs >>= 1;
                    }
                }
            }
        }
        return codes;
    }
}
