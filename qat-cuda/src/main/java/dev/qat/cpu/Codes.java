package dev.qat.cpu;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

import static dev.qat.cpu.Lanes.L;

/** The dense little-endian bit stream of a row of codes: code i occupies bits [i·b, (i+1)·b) of the row's 32-bit words. */
final class Codes {
    private static final VectorSpecies<Integer> I = VectorSpecies.of(int.class, VectorShape.forBitSize(Lanes.S.vectorBitSize()));
    /** Shifts for lanes that all come from one word: lane · b, for b = 1 and 2 with 16 lanes. */
    private static final IntVector[] SHIFTS = {null, shifts(1), shifts(2)};

    private Codes() {}

    private static IntVector shifts(int bits) {
        return IntVector.broadcast(I, 0).addIndex(bits);
    }

    static int get(long row, long i, int bits) {
        long bit = i * bits, word = row + bit / 32 * 4;
        int low = (int) (bit % 32);
        long window = Lanes.getInt(word) & 0xFFFFFFFFL;
        if (low + bits > 32) window |= (Lanes.getInt(word + 4) & 0xFFFFFFFFL) << 32;
        return (int) (window >>> low) & ((1 << bits) - 1);
    }

    /** Puts a code into words that were zero there. */
    static void set(long row, long i, int bits, int code) {
        long bit = i * bits, word = row + bit / 32 * 4;
        int low = (int) (bit % 32);
        Lanes.putInt(word, Lanes.getInt(word) | code << low);
        if (low + bits > 32) Lanes.putInt(word + 4, Lanes.getInt(word + 4) | code >>> (32 - low));
    }

    /** Codes i..i+L of a row as floats; what lies beyond the row's words is 0. */
    static FloatVector load(long row, long i, int bits, long words) {
        long bit = i * bits;
        if (bits <= 2 && bit % 32 + (long) L * bits <= 32) {
            IntVector v = IntVector.broadcast(I, Lanes.getInt(row + bit / 32 * 4)).lanewise(VectorOperators.LSHR, (int) (bit % 32));
            return floats(v.lanewise(VectorOperators.LSHR, SHIFTS[bits]).and((1 << bits) - 1));
        }
        if (bits == 4 && L == 16 && bit % 32 == 0 && bit / 32 + 2 <= words) {
            IntVector v = IntVector.broadcast(I, Lanes.getInt(row + bit / 8)).blend(Lanes.getInt(row + bit / 8 + 4), HIGH);
            return floats(v.lanewise(VectorOperators.LSHR, NIBBLES).and(15));
        }
        float[] codes = new float[L];
        for (int j = 0; j < L && (i + j + 1) * bits <= 32 * words; j++) codes[j] = get(row, i + j, bits);
        return FloatVector.fromArray(Lanes.S, codes, 0);
    }

    private static final IntVector NIBBLES = IntVector.broadcast(I, 0).addIndex(4).and(31);
    private static final jdk.incubator.vector.VectorMask<Integer> HIGH =
            IntVector.broadcast(I, 0).addIndex(1).compare(VectorOperators.GE, 8);

    private static FloatVector floats(IntVector v) {
        return (FloatVector) v.convertShape(VectorOperators.I2F, Lanes.S, 0);
    }
}
