package dev.qat.data;

import dev.qat.tensor.Fail;

/**
 * Blocks of 256 weights with two levels of scales: fp16 for the block, a few bits for each sub-block.
 *
 * <pre>
 * Q2_K   84 bytes   16 bytes: scale lo, minimum hi, per 16 weights; 64 bytes of 2-bit codes; d; dmin      w = d·s·q − dmin·m
 *                   element e: bits 2(e%128/32) of byte 32(e/128) + e%32
 * Q4_K  144 bytes   d; dmin; 12 bytes: 6-bit scales and minima of 8 × 32 weights; 128 bytes of nibbles    w = d·s·q − dmin·m
 *                   sub-block 2i: lo of bytes 32i .. 32i + 31, 2i + 1: hi of the same
 * Q6_K  210 bytes   128 bytes of low nibbles; 64 of high pairs; 16 signed scales per 16 weights; d        w = d·s·(q − 32)
 *                   element e, h = e/128, k = e%128/32, p = e%32: nibble k/2 of byte 64h + 32(k%2) + p, pair k of byte 32h + p
 * </pre>
 *
 * Source: ggml's {@code ggml-common.h} and its dequantize functions.
 */
final class SuperBlocks {
    private SuperBlocks() {}

    static void decode2(float[] w, int to, byte[] raw, int at) {
        float d = Blocks.step(raw, at + 80), dmin = Blocks.step(raw, at + 82);
        for (int e = 0; e < 256; e++) {
            int sub = raw[at + e / 16];
            int q = raw[at + 16 + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
            w[to + e] = d * (sub & 15) * q - dmin * (sub >> 4 & 15);
        }
    }

    /** A Q2_K block taken apart: w = code · step + minimum, with codes of 0 where the step is.   q (256), step, minimum (16) */
    static void codes2(int[] q, int to, float[] step, float[] minimum, int group, byte[] raw, int at) {
        float d = Blocks.step(raw, at + 80), dmin = Blocks.step(raw, at + 82);
        for (int s = 0; s < 16; s++) {
            step[group + s] = d * (raw[at + s] & 15);
            minimum[group + s] = -(dmin * (raw[at + s] >> 4 & 15));
        }
        for (int e = 0; e < 256; e++) {
            int code = raw[at + 16 + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
            q[to + e] = step[group + e / 16] == 0 ? 0 : code;
        }
    }

    /** One Q2_K block from its own parts.   scale, minimum (16) in 0..15, q (256) in 0..3; d, dmin fp16 bits */
    static void encode2(byte[] raw, int at, int[] scale, int[] minimum, int[] q, short d, short dmin) {
        java.util.Arrays.fill(raw, at, at + 84, (byte) 0);
        for (int s = 0; s < 16; s++) {
            Fail.unless((scale[s] | minimum[s]) >>> 4 == 0, "Q2_K cannot hold scale %d, minimum %d", scale[s], minimum[s]);
            raw[at + s] = (byte) (scale[s] | minimum[s] << 4);
        }
        for (int e = 0; e < 256; e++) {
            Fail.unless(q[e] >>> 2 == 0, "Q2_K cannot hold the code %d", q[e]);
            raw[at + 16 + 32 * (e / 128) + e % 32] |= (byte) (q[e] << 2 * (e % 128 / 32));
        }
        Blocks.putHalf(raw, at + 80, d);
        Blocks.putHalf(raw, at + 82, dmin);
    }

    static void decode4(float[] w, int to, byte[] raw, int at) {
        float d = Blocks.step(raw, at), dmin = Blocks.step(raw, at + 2);
        for (int s = 0; s < 8; s++) {
            float scale = d * sixBits(raw, at + 4, s, 0), minimum = dmin * sixBits(raw, at + 4, s, 4);
            for (int p = 0; p < 32; p++) {
                int q = raw[at + 16 + 32 * (s / 2) + p] >> 4 * (s % 2) & 15;
                w[to + 32 * s + p] = scale * q - minimum;
            }
        }
    }

    /** The 6-bit scale (shift 0) or minimum (shift 4) of sub-block j among 12 bytes. */
    private static int sixBits(byte[] raw, int at, int j, int shift) {
        if (j < 4) return raw[at + j + shift] & 63;
        return raw[at + j + 4] >> shift & 15 | (raw[at + j - 4 + shift] >> 6 & 3) << 4;
    }

    static void decode6(float[] w, int to, byte[] raw, int at) {
        float d = Blocks.step(raw, at + 208);
        for (int e = 0; e < 256; e++) {
            int h = e / 128, k = e % 128 / 32, p = e % 32;
            int low = raw[at + 64 * h + 32 * (k % 2) + p] >> 4 * (k / 2) & 15, high = raw[at + 128 + 32 * h + p] >> 2 * k & 3;
            w[to + e] = d * raw[at + 192 + e / 16] * ((low | high << 4) - 32);
        }
    }

    /** One Q6_K block from its own parts.   scale (16) signed bytes, q (256) in −32..31; d fp16 bits */
    static void encode6(byte[] raw, int at, int[] scale, int[] q, short d) {
        java.util.Arrays.fill(raw, at, at + 210, (byte) 0);
        for (int e = 0; e < 256; e++) {
            int h = e / 128, k = e % 128 / 32, p = e % 32, code = q[e] + 32;
            Fail.unless(code >>> 6 == 0, "Q6_K cannot hold the code %d", q[e]);
            raw[at + 64 * h + 32 * (k % 2) + p] |= (byte) ((code & 15) << 4 * (k / 2));
            raw[at + 128 + 32 * h + p] |= (byte) (code >> 4 << 2 * k);
        }
        for (int s = 0; s < 16; s++) raw[at + 192 + s] = (byte) scale[s];
        Blocks.putHalf(raw, at + 208, d);
    }
}
