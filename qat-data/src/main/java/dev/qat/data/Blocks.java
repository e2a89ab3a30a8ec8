package dev.qat.data;

/**
 * Blocks of one fp16 step d (and for Q4_1 a minimum m), then the codes; {@code lo}, {@code hi} are a byte's nibbles.
 *
 * <pre>
 * Q4_0   32 weights, 18 bytes   d, 16 bytes: byte j = q[j] + 8 lo, q[j + 16] + 8 hi      w = d·q
 * Q4_1   32 weights, 20 bytes   d, m, 16 bytes: byte j = q[j] lo, q[j + 16] hi           w = d·q + m
 * Q8_0   32 weights, 34 bytes   d, 32 signed bytes                                       w = d·q
 * Q1_0  128 weights, 18 bytes   d, 16 bytes, bit j%8 of byte j/8: 1 is +d, 0 is −d
 * Q2_0   64 weights, 18 bytes   d, 16 bytes: q[j] + 1 in bits 2(j%4) of byte j/4         w = d·q, q in −1..2
 * </pre>
 *
 * Source: ggml's {@code ggml-common.h} and its dequantize functions.
 */
final class Blocks {
    private Blocks() {}

    static short half(byte[] raw, int at) {
        return (short) (raw[at] & 0xff | raw[at + 1] << 8);
    }

    static float step(byte[] raw, int at) {
        return Float.float16ToFloat(half(raw, at));
    }

    static void putHalf(byte[] raw, int at, short bits) {
        raw[at] = (byte) bits;
        raw[at + 1] = (byte) (bits >> 8);
    }

    static void decode4(float[] w, int to, byte[] raw, int at) {
        float d = step(raw, at);
        for (int j = 0; j < 16; j++) {
            int b = raw[at + 2 + j];
            w[to + j] = d * ((b & 15) - 8);
            w[to + 16 + j] = d * ((b >> 4 & 15) - 8);
        }
    }

    static void encode4(byte[] raw, int at, int[] q, int from, short d) {
        putHalf(raw, at, d);
        for (int j = 0; j < 16; j++) raw[at + 2 + j] = (byte) (q[from + j] + 8 | q[from + 16 + j] + 8 << 4);
    }

    static void decode4WithMinimum(float[] w, int to, byte[] raw, int at) {
        float d = step(raw, at), m = step(raw, at + 2);
        for (int j = 0; j < 16; j++) {
            int b = raw[at + 4 + j];
            w[to + j] = d * (b & 15) + m;
            w[to + 16 + j] = d * (b >> 4 & 15) + m;
        }
    }

    static void encode4WithMinimum(byte[] raw, int at, int[] q, int from, short d, short m) {
        putHalf(raw, at, d);
        putHalf(raw, at + 2, m);
        for (int j = 0; j < 16; j++) raw[at + 4 + j] = (byte) (q[from + j] | q[from + 16 + j] << 4);
    }

    static void decode8(float[] w, int to, byte[] raw, int at) {
        float d = step(raw, at);
        for (int j = 0; j < 32; j++) w[to + j] = d * raw[at + 2 + j];
    }

    static void encode8(byte[] raw, int at, int[] q, int from, short d) {
        putHalf(raw, at, d);
        for (int j = 0; j < 32; j++) raw[at + 2 + j] = (byte) q[from + j];
    }

    static void decode1(float[] w, int to, byte[] raw, int at) {
        float d = step(raw, at);
        for (int j = 0; j < 128; j++) w[to + j] = (raw[at + 2 + j / 8] >> j % 8 & 1) == 1 ? d : -d;
    }

    static void encode1(byte[] raw, int at, int[] q, int from, short d) {
        putHalf(raw, at, d);
        for (int b = 0; b < 16; b++) {
            int bits = 0;
            for (int j = 0; j < 8; j++) bits |= (q[from + 8 * b + j] > 0 ? 1 : 0) << j;
            raw[at + 2 + b] = (byte) bits;
        }
    }

    static void decode2(float[] w, int to, byte[] raw, int at) {
        float d = step(raw, at);
        for (int j = 0; j < 64; j++) w[to + j] = d * ((raw[at + 2 + j / 4] >> 2 * (j % 4) & 3) - 1);
    }

    static void encode2(byte[] raw, int at, int[] q, int from, short d) {
        putHalf(raw, at, d);
        for (int b = 0; b < 16; b++) {
            int bits = 0;
            for (int j = 0; j < 4; j++) bits |= q[from + 4 * b + j] + 1 << 2 * j;
            raw[at + 2 + b] = (byte) bits;
        }
    }
}
