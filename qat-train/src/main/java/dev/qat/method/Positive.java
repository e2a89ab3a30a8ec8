package dev.qat.method;

import dev.qat.tensor.Fail;

/** Checks of recipe values that several methods share. */
final class Positive {
    private Positive() {}

    static void check(String key, long value) {
        if (value <= 0) throw Fail.usage("%s = %d, expected at least 1", key, value);
    }
}
