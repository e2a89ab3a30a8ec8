package dev.qat.export;

/** Codes as a dense little-endian bit stream in 32-bit words: code i in bits [i·b, i·b + b), lowest first, split across words. */
final class BitStream {
    private BitStream() {}

    static void pack(int[] words, int to, int[] codes, int from, int count, int bits) {
        for (int i = 0; i < count; i++) {
            long bit = (long) i * bits;
            int word = to + (int) (bit / 32), shift = (int) (bit % 32), code = codes[from + i] & (1 << bits) - 1;
            words[word] |= code << shift;
            if (shift + bits > 32) words[word + 1] |= code >>> 32 - shift;
        }
    }

    static void unpack(int[] codes, int to, int[] words, int from, int count, int bits) {
        for (int i = 0; i < count; i++) {
            long bit = (long) i * bits;
            int word = from + (int) (bit / 32), shift = (int) (bit % 32), code = words[word] >>> shift;
            if (shift + bits > 32) code |= words[word + 1] << 32 - shift;
            codes[to + i] = code & (1 << bits) - 1;
        }
    }
}
