package dev.qat.data;

import dev.qat.tensor.Fail;

/**
 * Plain weights to the nearest point of a type's lattice, the step from the block's largest weight: for embeddings, heads and
 * re-quantization, where no trained codes exist.
 *
 * <pre>
 * Q8_0         d = max|w| / 127             Q4_0   d = w* / −8, w* the weight of largest magnitude
 * Q4_1         d = (max − min) / 15, m = min  TQ1_0, TQ2_0, Q2_0   d = max|w|
 * Q6_K         per 16 weights max|w| / 31, these in 127ths of the largest
 * </pre>
 *
 * The step is rounded to fp16 first and the codes are taken with what is stored.
 */
final class Rounding {
    private Rounding() {}

    static void block(GgmlType type, byte[] raw, int at, float[] w, int from) {
        switch (type) {
            case F32 -> {
                int bits = Float.floatToRawIntBits(w[from]);
                Blocks.putHalf(raw, at, (short) bits);
                Blocks.putHalf(raw, at + 2, (short) (bits >> 16));
            }
            case F16 -> Blocks.putHalf(raw, at, Float.floatToFloat16(w[from]));
            case BF16 -> Blocks.putHalf(raw, at, StoredType.toBf16(w[from]));
            case Q6_K -> sixBits(raw, at, w, from);
            case Q8_0 -> lattice(type, raw, at, w, from, largest(w, from, 32) / 127, 0);
            case Q4_0 -> lattice(type, raw, at, w, from, signedLargest(w, from, 32) / -8, 0);
            case Q4_1 -> {
                float min = Float.MAX_VALUE, max = -Float.MAX_VALUE;
                for (int i = 0; i < 32; i++) {
                    min = Math.min(min, w[from + i]);
                    max = Math.max(max, w[from + i]);
                }
                lattice(type, raw, at, w, from, (max - min) / 15, min);
            }
            case TQ1_0, TQ2_0, Q2_0 -> lattice(type, raw, at, w, from, largest(w, from, type.elements), 0);
            default -> throw Fail.internal("%s has no rounding", type);
        }
    }

    private static void lattice(GgmlType type, byte[] raw, int at, float[] w, int from, float step, float minimum) {
        short d = Float.floatToFloat16(step), m = Float.floatToFloat16(minimum);
        float stored = Float.float16ToFloat(d), offset = Float.float16ToFloat(m);
        int[] q = new int[type.elements];
        for (int i = 0; i < q.length; i++) {
            double x = stored == 0 ? 0 : Math.rint((w[from + i] - offset) / (double) stored);
            q[i] = (int) Math.clamp(x, type.lowest, type.highest);
        }
        type.encode(raw, at, q, 0, d, m);
    }

    private static void sixBits(byte[] raw, int at, float[] w, int from) {
        float d = Float.float16ToFloat(Float.floatToFloat16(largest(w, from, 256) / 31 / 127));
        int[] scale = new int[16], q = new int[256];
        for (int s = 0; s < 16 && d > 0; s++) {
            float sub = largest(w, from + 16 * s, 16) / 31;
            scale[s] = (int) Math.clamp(Math.ceil(sub / (double) d), 0, 127);
            for (int i = 16 * s; i < 16 * s + 16 && scale[s] > 0; i++) {
                q[i] = (int) Math.clamp(Math.rint(w[from + i] / ((double) d * scale[s])), -32, 31);
            }
        }
        SuperBlocks.encode6(raw, at, scale, q, Float.floatToFloat16(d));
    }

    private static float largest(float[] w, int from, int n) {
        return Math.abs(signedLargest(w, from, n));
    }

    private static float signedLargest(float[] w, int from, int n) {
        float best = 0;
        for (int i = 0; i < n; i++) if (Math.abs(w[from + i]) > Math.abs(best)) best = w[from + i];
        return best;
    }
}
