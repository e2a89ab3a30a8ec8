package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;

class StoredTypeTest {
    private static final int ALL = 1 << 16;

    private static short[] allPatterns() {
        short[] patterns = new short[ALL];
        for (int i = 0; i < ALL; i++) patterns[i] = (short) i;
        return patterns;
    }

    private static float[] widened(StoredType dtype, short[] raw) {
        float[] floats = new float[raw.length];
        dtype.widen(MemorySegment.ofArray(floats), MemorySegment.ofArray(raw));
        return floats;
    }

    private static short[] narrowed(StoredType dtype, float[] floats) {
        short[] raw = new short[floats.length];
        dtype.narrow(MemorySegment.ofArray(raw), MemorySegment.ofArray(floats));
        return raw;
    }

    private static void assertSameFloat(float expected, float got, int pattern) {
        if (Float.isNaN(expected)) assertTrue(Float.isNaN(got), "pattern " + pattern);
        else assertEquals(Float.floatToRawIntBits(expected), Float.floatToRawIntBits(got), "pattern " + pattern);
    }

    @Test
    void everyF16PatternWidensAsTheJdkSays() {
        float[] got = widened(StoredType.F16, allPatterns());
        for (int i = 0; i < ALL; i++) assertSameFloat(Float.float16ToFloat((short) i), got[i], i);
    }

    @Test
    void everyBf16PatternIsTheUpperHalfOfAFloat() {
        float[] got = widened(StoredType.BF16, allPatterns());
        for (int i = 0; i < ALL; i++) assertSameFloat(Float.intBitsToFloat(i << 16), got[i], i);
    }

    @Test
    void everyHalfPatternSurvivesTheRoundTrip() {
        for (StoredType dtype : new StoredType[] {StoredType.F16, StoredType.BF16}) {
            float[] wide = widened(dtype, allPatterns());
            short[] back = narrowed(dtype, wide);
            for (int i = 0; i < ALL; i++) {
                if (Float.isNaN(wide[i])) assertTrue(Float.isNaN(widened(dtype, new short[] {back[i]})[0]), dtype + " pattern " + i);
                else assertEquals((short) i, back[i], dtype + " pattern " + i);
            }
        }
    }

    /** Between two neighbours a < b: a quarter goes to a, three quarters to b, the middle to the even one. */
    @Test
    void bf16RoundsToNearestEven() {
        for (int i = 0; i < 0x7f80; i++) {
            for (int sign : new int[] {0, 0x8000}) {
                int low = (i | sign) << 16;
                assertEquals((short) (i | sign), StoredType.toBf16(Float.intBitsToFloat(low + 0x4000)));
                assertEquals((short) (i | sign), StoredType.toBf16(Float.intBitsToFloat(low + 0x7fff)));
                assertEquals((short) ((i | sign) + (i & 1)), StoredType.toBf16(Float.intBitsToFloat(low + 0x8000)));
                assertEquals((short) ((i | sign) + 1), StoredType.toBf16(Float.intBitsToFloat(low + 0x8001)));
            }
        }
    }

    @Test
    void bf16KeepsInfinitiesAndEveryNan() {
        assertEquals((short) 0x7f80, StoredType.toBf16(Float.POSITIVE_INFINITY));
        assertEquals((short) 0xff80, StoredType.toBf16(Float.NEGATIVE_INFINITY));
        assertEquals((short) 0x7f80, StoredType.toBf16(Float.MAX_VALUE), "rounds up to infinity, as nearest-even does");
        for (int payload = 1; payload < 0x800000; payload = payload * 2 + 1) {
            short got = StoredType.toBf16(Float.intBitsToFloat(0x7f800000 | payload));
            assertTrue(Float.isNaN(StoredType.fromBf16(got)), Integer.toHexString(payload));
        }
    }

    @Test
    void f16NarrowsAsTheJdkSays() {
        Random random = new Random(1);
        float[] floats = new float[50_000];
        for (int i = 0; i < floats.length; i++) floats[i] = Float.intBitsToFloat(random.nextInt());
        short[] got = narrowed(StoredType.F16, floats);
        for (int i = 0; i < floats.length; i++) assertEquals(Float.floatToFloat16(floats[i]), got[i]);
    }

    @Test
    void unevenLengthsCrossTheChunkBoundary() {
        for (int n : new int[] {0, 1, 4095, 4096, 4097, 10_000}) {
            float[] floats = new float[n];
            for (int i = 0; i < n; i++) floats[i] = i - 5000;
            for (StoredType dtype : new StoredType[] {StoredType.F16, StoredType.BF16}) {
                short[] raw = narrowed(dtype, floats);
                for (int i = 0; i < n; i++) {
                    short expected = dtype == StoredType.F16 ? Float.floatToFloat16(floats[i]) : StoredType.toBf16(floats[i]);
                    assertEquals(expected, raw[i], dtype + " at " + i);
                }
            }
        }
    }

    @Test
    void mismatchedCountsAndIntegersAreRefused() {
        MemorySegment two = MemorySegment.ofArray(new float[2]);
        assertThrows(Fail.class, () -> StoredType.BF16.widen(two, MemorySegment.ofArray(new short[3])));
        assertThrows(Fail.class, () -> StoredType.F16.narrow(MemorySegment.ofArray(new byte[3]), two));
        assertThrows(Fail.class, () -> StoredType.I32.widen(two, MemorySegment.ofArray(new int[2])));
    }
}
