package dev.qat.method;

import dev.qat.tensor.Fail;

/** Widths a code may have in the formats that are written. */
final class Bits {
    private Bits() {}

    static void check(int bits) {
        if (bits < 2 || bits > 8) throw Fail.usage("bits = %d, expected 2 to 8", bits);
    }
}
