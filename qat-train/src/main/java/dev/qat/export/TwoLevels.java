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
            int largest = 15; // Snap's codes reach it; of somebody else's the largest may be less
            while (largest > 0 && !fits(x, b, codes, d, Math.max(top / largest, how.low()), how.high() <= 0)) largest--;
            if (largest == 0) {
                throw Fail.usage("%s: numbers up to %s are no 4-bit multiples of one fp16 number for 16 neighbours, which is what Q2_K stores; train it with target: gguf:q2_k", name, top);
            }
        }
        return new TwoLevels(d, codes);
    }

    private static boolean fits(float[] x, int b, int[] codes, short[] d, float wanted, boolean negative) {
        d[b] = Float.floatToFloat16(wanted);
        float unit = Float.float16ToFloat(d[b]);
        for (int i = b * BLOCK; i < (b + 1) * BLOCK; i++) {
            codes[i] = unit == 0 ? 0 : (int) Math.rint(Math.abs(x[i]) / unit);
            if (codes[i] > 15 || codes[i] * unit != Math.abs(x[i]) || x[i] != 0 && x[i] < 0 != negative) return false;
        }
        return true;
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
