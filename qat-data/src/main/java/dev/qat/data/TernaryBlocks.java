package dev.qat.data;

/**
 * Blocks of 256 ternary weights t in {−1, 0, 1} with one fp16 step d at the end, w = d·t.
 *
 * <p>TQ2_0, 66 bytes: 64 bytes of codes t + 1, then d. Element e, with h = e / 128, k = e % 128 / 32, p = e % 32, lies in bits
 * 2k of byte 32h + p.
 *
 * <p>TQ1_0, 54 bytes: 48 + 4 bytes of base-3 numbers, then d. A byte holds five digits t + 1, the first the most significant:
 * byte = ⌈v · 256 / 243⌉; digit n is the top of (byte · 3ⁿ mod 256) · 3. Byte p &lt; 32 holds elements p + 32n; byte 32 + p
 * (p &lt; 16) holds 160 + p + 16n; byte 48 + p (p &lt; 4) holds 240 + p + 4n for n &lt; 4, then a digit 0.
 *
 * <p>Source: ggml's {@code quants.c}.
 */
final class TernaryBlocks {
    private static final int PAIRS_STEP = 64, DIGITS_STEP = 52;
    private static final int[] POWERS = {1, 3, 9, 27, 81};

    private TernaryBlocks() {}

    static void decodePairs(float[] w, int to, byte[] raw, int at) {
        float d = Blocks.step(raw, at + PAIRS_STEP);
        for (int e = 0; e < 256; e++) {
            w[to + e] = d * ((raw[at + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3) - 1);
        }
    }

    static void encodePairs(byte[] raw, int at, int[] q, int from, short d) {
        java.util.Arrays.fill(raw, at, at + PAIRS_STEP, (byte) 0);
        for (int e = 0; e < 256; e++) {
            raw[at + 32 * (e / 128) + e % 32] |= (byte) (q[from + e] + 1 << 2 * (e % 128 / 32));
        }
        Blocks.putHalf(raw, at + PAIRS_STEP, d);
    }

    static void decodeDigits(float[] w, int to, byte[] raw, int at) {
        float d = Blocks.step(raw, at + DIGITS_STEP);
        for (int b = 0; b < DIGITS_STEP; b++) {
            for (int n = 0; n < digits(b); n++) {
                int rest = (raw[at + b] & 0xff) * POWERS[n] & 0xff;
                w[to + element(b, n)] = d * ((rest * 3 >> 8) - 1);
            }
        }
    }

    static void encodeDigits(byte[] raw, int at, int[] q, int from, short d) {
        for (int b = 0; b < DIGITS_STEP; b++) {
            int v = 0;
            for (int n = 0; n < 5; n++) v = 3 * v + (n < digits(b) ? q[from + element(b, n)] + 1 : 0);
            raw[at + b] = (byte) ((v * 256 + 242) / 243);
        }
        Blocks.putHalf(raw, at + DIGITS_STEP, d);
    }

    private static int digits(int b) {
        return b < 48 ? 5 : 4;
    }

    /** The element that digit n of byte b stands for. */
    private static int element(int b, int n) {
        if (b < 32) return b + 32 * n;
        return b < 48 ? 160 + b - 32 + 16 * n : 240 + b - 48 + 4 * n;
    }
}
