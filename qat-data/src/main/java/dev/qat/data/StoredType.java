package dev.qat.data;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * The number formats of a safetensors file, under the names the file itself uses: what lies on disk, where
 * {@link dev.qat.tensor.DType} is what the engine computes with.
 *
 * <p>F32, F16 and BF16 convert to and from fp32: {@code bf16(x)} is the upper half of x's 32 bits, rounded to nearest even.
 * The others (packed codes, indices) are only ever moved as bytes.
 */
public enum StoredType {
    F64(8), F32(4), F16(2), BF16(2), F8_E4M3(1), F8_E5M2(1), F8_E8M0(1),
    I64(8), I32(4), I16(2), I8(1), U64(8), U32(4), U16(2), U8(1), BOOL(1);

    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    // Small enough to stay in the first-level cache, large enough to hide the cost of a bulk copy.
    private static final int CHUNK = 4096;

    private final int bytes;

    StoredType(int bytes) {
        this.bytes = bytes;
    }

    /** Bytes of one element. */
    public int bytes() {
        return bytes;
    }

    /** True for the three formats {@link #widen} and {@link #narrow} convert. */
    public boolean convertible() {
        return this == F32 || this == F16 || this == BF16;
    }

    /** floats = fp32(raw), exactly.   floats (n) fp32, raw (n) of this format, little-endian. */
    public void widen(MemorySegment floats, MemorySegment raw) {
        long n = sameCount(floats, raw);
        if (this == F32) {
            MemorySegment.copy(raw, 0, floats, 0, 4 * n);
            return;
        }
        short[] half = new short[CHUNK];
        float[] wide = new float[CHUNK];
        for (long at = 0; at < n; at += CHUNK) {
            int size = (int) Math.min(CHUNK, n - at);
            MemorySegment.copy(raw, SHORT, 2 * at, half, 0, size);
            if (this == BF16) for (int i = 0; i < size; i++) wide[i] = fromBf16(half[i]);
            else for (int i = 0; i < size; i++) wide[i] = Float.float16ToFloat(half[i]);
            MemorySegment.copy(wide, 0, floats, FLOAT, 4 * at, size);
        }
    }

    /** raw = round(floats), to nearest, ties to even.   raw (n) of this format, little-endian, floats (n) fp32. */
    public void narrow(MemorySegment raw, MemorySegment floats) {
        long n = sameCount(floats, raw);
        if (this == F32) {
            MemorySegment.copy(floats, 0, raw, 0, 4 * n);
            return;
        }
        short[] half = new short[CHUNK];
        float[] wide = new float[CHUNK];
        for (long at = 0; at < n; at += CHUNK) {
            int size = (int) Math.min(CHUNK, n - at);
            MemorySegment.copy(floats, FLOAT, 4 * at, wide, 0, size);
            if (this == BF16) for (int i = 0; i < size; i++) half[i] = toBf16(wide[i]);
            else for (int i = 0; i < size; i++) half[i] = Float.floatToFloat16(wide[i]);
            MemorySegment.copy(half, 0, raw, SHORT, 2 * at, size);
        }
    }

    /** The fp32 value of a bf16 bit pattern. */
    public static float fromBf16(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }

    /** The bf16 bit pattern nearest to x, ties to even; a NaN stays a (quiet) NaN. */
    public static short toBf16(float x) {
        int bits = Float.floatToRawIntBits(x);
        // Rounding could carry a NaN's last payload bits into infinity, so NaNs are cut and made quiet instead.
        if (x != x) return (short) ((bits >>> 16) | 0x40);
        return (short) ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16);
    }

    private long sameCount(MemorySegment floats, MemorySegment raw) {
        Fail.unless(convertible(), "%s has no conversion to fp32; only F32, F16 and BF16 do", this);
        long n = raw.byteSize() / bytes;
        Fail.unless(raw.byteSize() == n * bytes && floats.byteSize() == 4 * n,
                "%s conversion of %d raw bytes against %d bytes of fp32: the counts differ", this, raw.byteSize(), floats.byteSize());
        return n;
    }
}
