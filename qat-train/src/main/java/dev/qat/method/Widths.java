package dev.qat.method;

import dev.qat.model.TokenRounding;
import dev.qat.tensor.Fail;

/** Bits of weights, activations and KV cache, written W-A-KV as in LLM-QAT's tables: 4-8-4, 4-8-16. 32 leaves a kind alone. */
record Widths(int weights, int activations, int cache) {
    /** What is not quantized at all; 16 bits are, as in the official code, except for weights, whose codes have at most 8. */
    static final int OFF = TokenRounding.OFF;

    Widths {
        boolean fits = (1 <= weights && weights <= 8 || weights == 16 || weights == OFF) && token(activations) && token(cache);
        if (!fits) throw Fail.usage("bits = %d-%d-%d, expected W-A-KV such as 4-8-4: weights 1 to 8, activations and KV cache 2 to 16, or 32 for full precision", weights, activations, cache);
    }

    static Widths of(String text) {
        String[] parts = text.strip().split("-", -1);
        if (parts.length != 3 || !text.strip().matches("\\d{1,2}-\\d{1,2}-\\d{1,2}")) throw Fail.usage("bits = %s, expected W-A-KV such as 4-8-4", text);
        return new Widths(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]), Integer.parseInt(parts[2]));
    }

    private static boolean token(int bits) {
        return 2 <= bits && bits <= 16 || bits == OFF;
    }

    /** How tokens are rounded to these widths. */
    TokenRounding tokens(boolean heads, boolean asymmetric, boolean window) {
        return new TokenRounding(activations, cache, heads, !asymmetric, window);
    }

    boolean quantizesWeights() {
        return weights <= 8;
    }
}
