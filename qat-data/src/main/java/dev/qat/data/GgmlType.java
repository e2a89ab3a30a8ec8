package dev.qat.data;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;

/**
 * The number formats of a GGUF file that qat knows: {@code elements} weights in a block of {@code bytes} bytes.
 *
 * <p>A <b>lattice</b> type stores whole numbers q times one fp16 step per block, w = d·q with q in
 * [{@link #lowest}, {@link #highest}] (Q4_1: w = d·q + m), so trained codes go in as they are ({@link #encode}). The others
 * have two levels of scales. {@link #decode} reads all of them, {@link #round} fits plain weights to some of them.
 *
 * <p>Layouts: {@link Blocks}, {@link TernaryBlocks}, {@link SuperBlocks}; ids as in ggml's {@code enum ggml_type}.
 */
public enum GgmlType {
    F32(0, 1, 4), F16(1, 1, 2), Q4_0(2, 32, 18, -8, 7), Q4_1(3, 32, 20, 0, 15), Q8_0(8, 32, 34, -128, 127), Q2_K(10, 256, 84),
    Q4_K(12, 256, 144), Q6_K(14, 256, 210), BF16(30, 1, 2), TQ1_0(34, 256, 54, -1, 1), TQ2_0(35, 256, 66, -1, 1),
    Q1_0(41, 128, 18, -1, 1), Q2_0(42, 64, 18, -1, 2);

    private static final int CHUNK = 1 << 14; // elements decoded at a time, a multiple of every block

    public final int id;
    /** Weights in a block. */
    public final int elements;
    /** Bytes of a block. */
    public final int bytes;
    /** The whole numbers a lattice type holds; 0 and 0 for the others. */
    public final int lowest, highest;

    GgmlType(int id, int elements, int bytes) {
        this(id, elements, bytes, 0, 0);
    }

    GgmlType(int id, int elements, int bytes, int lowest, int highest) {
        this.id = id;
        this.elements = elements;
        this.bytes = bytes;
        this.lowest = lowest;
        this.highest = highest;
    }

    /** The type with ggml's number. */
    public static Optional<GgmlType> of(int id) {
        return Arrays.stream(values()).filter(t -> t.id == id).findFirst();
    }

    /** The type with a name such as {@code q4_0}. */
    public static Optional<GgmlType> named(String name) {
        return Arrays.stream(values()).filter(t -> t.label().equals(name)).findFirst();
    }

    /** The name in lower case, as targets and options spell it. */
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** Whether whole numbers times one step can be stored as they are. */
    public boolean lattice() {
        return highest > lowest;
    }

    /** Whether trained codes can be stored as they are: those of a lattice, or of Q2_K's two levels. */
    public boolean codes() {
        return lattice() || this == Q2_K;
    }

    /** Whether the whole number q is a point of this lattice; Q1_0 has no zero. */
    public boolean holds(int q) {
        return lattice() && q >= lowest && q <= highest && (this != Q1_0 || q != 0);
    }

    /** Bytes of a row of {@code cols} weights, which must be whole blocks. */
    public long rowBytes(long cols) {
        Fail.unless(cols % elements == 0, "a row of %d is no multiple of %s's %d", cols, this, elements);
        return Math.multiplyExact(cols / elements, (long) bytes);
    }

    public double bitsPerWeight() {
        return 8.0 * bytes / elements;
    }

    /** The weights of one block.   w[to .. to + elements) from raw[at .. at + bytes) */
    public void decode(float[] w, int to, byte[] raw, int at) {
        switch (this) {
            case F32 -> w[to] = Float.intBitsToFloat(Blocks.half(raw, at) & 0xffff | Blocks.half(raw, at + 2) << 16);
            case F16 -> w[to] = Float.float16ToFloat(Blocks.half(raw, at));
            case BF16 -> w[to] = StoredType.fromBf16(Blocks.half(raw, at));
            case Q4_0 -> Blocks.decode4(w, to, raw, at);
            case Q4_1 -> Blocks.decode4WithMinimum(w, to, raw, at);
            case Q8_0 -> Blocks.decode8(w, to, raw, at);
            case Q1_0 -> Blocks.decode1(w, to, raw, at);
            case Q2_0 -> Blocks.decode2(w, to, raw, at);
            case TQ1_0 -> TernaryBlocks.decodeDigits(w, to, raw, at);
            case TQ2_0 -> TernaryBlocks.decodePairs(w, to, raw, at);
            case Q2_K -> SuperBlocks.decode2(w, to, raw, at);
            case Q4_K -> SuperBlocks.decode4(w, to, raw, at);
            case Q6_K -> SuperBlocks.decode6(w, to, raw, at);
        }
    }

    /**
     * One block of a lattice type from whole numbers and the bits of its fp16 step; {@code m} is Q4_1's fp16 minimum, 0
     * elsewhere.   raw[at .. at + bytes) from q[from .. from + elements)
     */
    public void encode(byte[] raw, int at, int[] q, int from, short d, short m) {
        for (int i = 0; i < elements; i++) Fail.unless(holds(q[from + i]), "%s cannot hold %d", this, q[from + i]);
        Fail.unless(m == 0 || this == Q4_1, "%s has no minimum", this);
        switch (this) {
            case Q4_0 -> Blocks.encode4(raw, at, q, from, d);
            case Q4_1 -> Blocks.encode4WithMinimum(raw, at, q, from, d, m);
            case Q8_0 -> Blocks.encode8(raw, at, q, from, d);
            case Q1_0 -> Blocks.encode1(raw, at, q, from, d);
            case Q2_0 -> Blocks.encode2(raw, at, q, from, d);
            case TQ1_0 -> TernaryBlocks.encodeDigits(raw, at, q, from, d);
            case TQ2_0 -> TernaryBlocks.encodePairs(raw, at, q, from, d);
            default -> throw Fail.internal("%s is no lattice type", this);
        }
    }

    /** The fp16 step of one block of a lattice type. */
    public float step(byte[] raw, int at) {
        return Blocks.step(raw, at + stepPlace());
    }

    /** The fp16 minimum of one block of Q4_1. */
    public float minimum(byte[] raw, int at) {
        Fail.unless(this == Q4_1, "%s has no minimum", this);
        return Blocks.step(raw, at + 2);
    }

    private int stepPlace() {
        return this == TQ1_0 || this == TQ2_0 ? bytes - 2 : 0;
    }

    /** The whole numbers of one block of a lattice type, which {@link #encode} takes.   q[to .. to + elements) from raw[at .. at + bytes) */
    public void whole(int[] q, int to, byte[] raw, int at) {
        Fail.unless(lattice(), "%s is no lattice type", this);
        byte[] block = Arrays.copyOfRange(raw, at, at + bytes);
        Blocks.putHalf(block, stepPlace(), Float.floatToFloat16(1)); // steps of 1 and no minimum leave the whole numbers
        if (this == Q4_1) Blocks.putHalf(block, 2, (short) 0);
        float[] w = new float[elements];
        decode(w, 0, block, 0);
        for (int i = 0; i < elements; i++) q[to + i] = (int) w[i];
    }

    /** The codes of one block of Q2_K, and of each 16 of them step and minimum: w = code · step + minimum.   q (256), step, minimum (16) from raw (84) */
    public static void decodeTwoLevels(int[] q, int to, float[] step, float[] minimum, int group, byte[] raw, int at) {
        SuperBlocks.codes2(q, to, step, minimum, group, raw, at);
    }

    /**
     * One block of Q2_K: w = d·scale·q − dmin·minimum, scale and minimum per 16 weights.
     * raw[at .. at + 84) from scale, minimum (16) in 0..15, q[from .. from + 256) in 0..3, fp16 bits d, dmin
     */
    public static void encodeTwoLevels(byte[] raw, int at, int[] scale, int[] minimum, int[] q, int from, short d, short dmin) {
        SuperBlocks.encode2(raw, at, scale, minimum, from == 0 && q.length == 256 ? q : Arrays.copyOfRange(q, from, from + 256), d, dmin);
    }

    /** One block of weights rounded to this type, its step from the block's largest weight.   raw from w[from .. from + elements) */
    public void round(byte[] raw, int at, float[] w, int from) {
        Rounding.block(this, raw, at, w, from);
    }

    /** Whether {@link #round} is written for this type. */
    public boolean rounds() {
        return this != Q2_K && this != Q4_K && this != Q1_0;
    }

    /** floats = the weights of whole blocks.   floats (n) fp32, raw (n / elements · bytes) */
    public void decode(MemorySegment floats, MemorySegment raw) {
        long n = floats.byteSize() / 4;
        Fail.unless(raw.byteSize() == rowBytes(n), "%s: %d bytes are given for %d weights", this, raw.byteSize(), n);
        float[] wide = new float[(int) Math.min(CHUNK, n)];
        byte[] narrow = new byte[wide.length / elements * bytes];
        for (long at = 0; at < n; at += CHUNK) {
            int count = (int) Math.min(CHUNK, n - at);
            MemorySegment.copy(raw, ValueLayout.JAVA_BYTE, at / elements * bytes, narrow, 0, count / elements * bytes);
            for (int i = 0, b = 0; i < count; i += elements, b += bytes) decode(wide, i, narrow, b);
            MemorySegment.copy(wide, 0, floats, ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * at, count);
        }
    }
}
