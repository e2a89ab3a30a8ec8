package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * The numbers a container stores steps, zero points or minima as: c = clamp(x, low, high), then
 *
 * <pre>
 * block = 0   y = half(c)
 * block = B   of B neighbours, all of one sign: d = half(max(max |c| / 15, low)), y = ± d · clamp(rint(|c| / d), least, 15); 0 where d is
 * </pre>
 *
 * @param half  how numbers are rounded  @param block values that share a number, 0 for none (Q2_K: 16)
 * @param least the smallest of 4-bit codes in use: 1 for steps, which must not vanish, else 0
 */
public record Snap(float low, float high, Half half, int block, int least) {
    public enum Half { NONE, FP16, BF16 }

    /** The steps that quantizers use. */
    public static final float LEAST_STEP = 1e-4f, MOST_STEP = 1e4f;

    public Snap {
        Fail.unless(low <= high && block >= 0 && (block == 0 || low >= 0 || high <= 0), "snapping to [%s, %s] in blocks of %d", low, high, block);
    }

    public static Snap steps(Half half) {
        return new Snap(LEAST_STEP, MOST_STEP, half, 0, 0);
    }

    /** Whole numbers from {@code low} to {@code high}; rounding is left to the quantizer. */
    public static Snap range(int low, int high) {
        return new Snap(low, high, Half.NONE, 0, 0);
    }

    public static Snap minima(Half half) {
        return new Snap(-MOST_STEP, 0, half, 0, 0);
    }

    /** The same numbers as 4-bit multiples of one number for each 16 neighbours. */
    public Snap twoLevels() {
        return new Snap(low, high, half, 16, low > 0 ? 1 : 0);
    }

    /** x as {@link #half} holds it; within [−65504, 65504] for FP16. */
    public static float round(float x, Half half) {
        return switch (half) {
            case NONE -> x;
            case FP16 -> Float.float16ToFloat(Float.floatToFloat16(x));
            case BF16 -> Float.isNaN(x) ? x : Float.intBitsToFloat(Float.floatToRawIntBits(x) + 0x7fff + (Float.floatToRawIntBits(x) >>> 16 & 1) & 0xffff0000);
        };
    }
}
