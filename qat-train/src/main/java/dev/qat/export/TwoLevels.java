package dev.qat.export;

import dev.qat.ops.Snap;
import dev.qat.tensor.Fail;

/**
 * Numbers that are 4-bit multiples of one fp16 number for each 16 neighbours, taken apart again: x = code · d, which is how Q2_K
 * stores steps and (negated) minima. {@link Snap#twoLevels} makes them.
 *
 * @param d (n / 16) fp16 bits  @param codes (n) in 0..15
 */
record TwoLevels(short[] d, int[] codes) {
    private static final int BLOCK = 16;

    /** Takes numbers apart that {@code how} made; others are refused with a sentence.   x (n), n a multiple of 16 */
    static TwoLevels of(float[] x, Snap how, String name) {
        short[] d = new short[x.length / BLOCK];
        int[] codes = new int[x.length];
        for (int b = 0; b < d.length; b++) {
            float top = 0;
            for (int i = b * BLOCK; i < (b + 1) * BLOCK; i++) top = Math.max(top, Math.abs(x[i]));
            d[b] = Float.floatToFloat16(Math.max(top / 15, how.low()));
            float unit = Float.float16ToFloat(d[b]);
            for (int i = b * BLOCK; i < (b + 1) * BLOCK; i++) {
                codes[i] = unit == 0 ? 0 : (int) Math.rint(Math.abs(x[i]) / unit);
                if (codes[i] > 15 || codes[i] * unit != Math.abs(x[i]) || x[i] != 0 && x[i] < 0 != how.high() <= 0) {
                    throw Fail.usage("%s: %s is no 4-bit multiple of one fp16 number for 16 neighbours, which is what Q2_K stores; train it with target: gguf:q2_k", name, x[i]);
                }
            }
        }
        return new TwoLevels(d, codes);
    }

    static TwoLevels steps(Lattice l) {
        return of(l.step(), Snap.steps(Snap.Half.FP16).twoLevels(), l.name());
    }

    static TwoLevels minima(Lattice l) {
        return of(l.zero(), Snap.minima(Snap.Half.FP16).twoLevels(), l.name());
    }

    /** The 16 codes of a block. */
    int[] block(int b) {
        return java.util.Arrays.copyOfRange(codes, b * BLOCK, (b + 1) * BLOCK);
    }
}
