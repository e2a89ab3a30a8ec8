package dev.qat.ops;

import java.util.List;
import java.util.function.BiFunction;

/**
 * Values that ops stumble over, put in place of the generic ones.
 *
 * @param f     what an argument of this name holds instead of these values
 * @param scale how far from 1 the numbers are, for tolerances; 0 where only the result itself can tell
 */
record Special(String name, double scale, BiFunction<String, float[], float[]> f) {
    static final Special NONE = new Special("", 1, (name, v) -> v);

    static final Special ZEROS = each("all zeros", 1, v -> 0f);
    static final Special EQUAL = each("all equal", 1, v -> 0.75f);
    static final Special POSITIVE = each("all positive", 1, v -> Math.abs(v) + 0.125f);
    static final Special NEGATIVE = each("all negative", 1, v -> -Math.abs(v) - 0.125f);
    static final Special TINY = each("tiny", 0, v -> v * 1e-18f);

    /** What every row is tried on. */
    static final List<Special> COMMON = List.of(ZEROS, EQUAL, POSITIVE, NEGATIVE, TINY);

    static Special huge(float factor) {
        return each("huge", 1, v -> v * factor);
    }

    /** One argument scaled, the others as they are. */
    static Special scaled(String arg, float factor) {
        return new Special(arg + " times " + factor, 1, (name, v) -> name.equals(arg) ? Values.of(v.length, i -> (double) v[i] * factor) : v);
    }

    interface Each {
        float of(float v);
    }

    private static Special each(String name, double scale, Each f) {
        return new Special(name, scale, (arg, v) -> {
            float[] out = new float[v.length];
            for (int i = 0; i < out.length; i++) out[i] = f.of(v[i]);
            return out;
        });
    }

    /** Values by index for the arguments named; all others stay. */
    static Special of(String name, Named... named) {
        return new Special(name, 1, (arg, v) -> {
            for (Named n : named) if (n.arg.equals(arg)) return Values.of(v.length, n.at);
            return v;
        });
    }

    record Named(String arg, java.util.function.IntToDoubleFunction at) {}

    static Named named(String arg, java.util.function.IntToDoubleFunction at) {
        return new Named(arg, at);
    }
}
