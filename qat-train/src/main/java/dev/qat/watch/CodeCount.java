package dev.qat.watch;

import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;

/**
 * The codes of a linear, counted.
 *
 * @param codes  how often each code came
 * @param groups how many groups have a share of dead weights in [k/BINS, (k+1)/BINS); the last counts those that are all dead
 * @param dead   weights that stand for 0: their code is their group's zero point
 */
record CodeCount(long[] codes, long[] groups, long dead, long all) {
    static final int BINS = 16;

    /** Code i of a row is its bits [i·b, (i+1)·b), lowest first. */
    static CodeCount of(PackedWeight p, Memory memory) {
        long[] codes = new long[1 << p.bits()], groups = new long[BINS + 1];
        long dead = 0;
        for (long r = 0; r < p.rows(); r++) {
            int[] words = memory.ints(p.words().rows(r, 1));
            float[] zero = memory.floats(p.zero().rows(r, 1)), step = p.minimum() ? memory.floats(p.step().rows(r, 1)) : null;
            for (int g = 0; g < zero.length; g++) {
                float nothing = p.minimum() ? -zero[g] / step[g] : zero[g]; // the code of 0, whole or not
                int none = 0;
                for (int i = g * p.group(); i < (g + 1) * p.group(); i++) {
                    int code = code(words, i, p.bits());
                    codes[code]++;
                    if (code == nothing) none++;
                }
                groups[none * BINS / p.group()]++;
                dead += none;
            }
        }
        return new CodeCount(codes, groups, dead, p.rows() * p.cols());
    }

    private static int code(int[] words, int i, int bits) {
        int bit = i * bits, word = bit >> 5;
        long two = words[word] & 0xFFFFFFFFL | (word + 1 < words.length ? (long) words[word + 1] << 32 : 0);
        return (int) (two >>> (bit & 31)) & (1 << bits) - 1;
    }
}
