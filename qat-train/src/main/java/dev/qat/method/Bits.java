package dev.qat.method;

import dev.qat.tensor.Fail;

/** Widths a code may have in the formats that are written; 0 leaves it to the target. */
final class Bits {
    private Bits() {}

    static void check(int bits) {
        if (bits != 0 && (bits < 2 || bits > 8)) throw Fail.usage("bits = %d, expected 2 to 8", bits);
    }
}
