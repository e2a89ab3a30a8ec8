package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Random;
import java.util.function.IntUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Every block format, byte for byte. */
class GgmlTypeTest {
    private static final short ONE = 0x3c00, TWO = 0x4000;

    private static String hex(GgmlType type, short d, short m, IntUnaryOperator q) {
        byte[] raw = new byte[type.bytes];
        Arrays.fill(raw, (byte) 0x99); // whatever stood there must not shine through
        int[] codes = new int[type.elements];
        for (int i = 0; i < codes.length; i++) codes[i] = q.applyAsInt(i);
        type.encode(raw, 0, codes, 0, d, m);
        return HexFormat.of().formatHex(raw);
    }

    private static float[] decoded(GgmlType type, byte[] raw) {
        float[] w = new float[type.elements];
        type.decode(w, 0, raw, 0);
        return w;
    }

    @Test
    void fourBitCodesLieHalfABlockApart() {
        assertEquals("003c" + "00112233445566778899aabbccddeeff", hex(GgmlType.Q4_0, ONE, (short) 0, i -> i % 16 - 8));
        assertEquals("003c" + "08182838485868788898a8b8c8d8e8f8", hex(GgmlType.Q4_0, ONE, (short) 0, i -> i < 16 ? 0 : i - 24));
        assertEquals("003c" + "0040" + "00112233445566778899aabbccddeeff", hex(GgmlType.Q4_1, ONE, TWO, i -> i % 16));
    }

    @Test
    void eightBitCodesAreSignedBytes() {
        assertEquals("0040" + "80".repeat(31) + "7f", hex(GgmlType.Q8_0, TWO, (short) 0, i -> i == 31 ? 127 : -128));
    }

    @Test
    void oneAndTwoBitCodesLieInOrder() {
        assertEquals("003c" + "e4".repeat(16), hex(GgmlType.Q2_0, ONE, (short) 0, i -> i % 4 - 1));
        assertEquals("003c" + "01" + "00".repeat(14) + "80", hex(GgmlType.Q1_0, ONE, (short) 0, i -> i == 0 || i == 127 ? 1 : -1));
    }

    @Test
    void ternaryPairsLieThirtyTwoApart() {
        assertEquals("00".repeat(64) + "003c", hex(GgmlType.TQ2_0, ONE, (short) 0, _ -> -1));
        assertEquals("55".repeat(64) + "003c", hex(GgmlType.TQ2_0, ONE, (short) 0, _ -> 0));
        assertEquals("08" + "00".repeat(62) + "80" + "003c", hex(GgmlType.TQ2_0, ONE, (short) 0, i -> i == 32 || i == 255 ? 1 : -1));
    }

    @Test
    void ternaryDigitsAreBaseThree() {
        assertEquals("00".repeat(52) + "003c", hex(GgmlType.TQ1_0, ONE, (short) 0, _ -> -1));
        assertEquals("80".repeat(48) + "7f".repeat(4) + "003c", hex(GgmlType.TQ1_0, ONE, (short) 0, _ -> 0));
        assertEquals("ff".repeat(48) + "fd".repeat(4) + "003c", hex(GgmlType.TQ1_0, ONE, (short) 0, _ -> 1));
        // element 0 is the first digit of byte 0: 2 · 81 = 162, ⌈162 · 256 / 243⌉ = 171
        assertEquals("ab" + "00".repeat(51) + "003c", hex(GgmlType.TQ1_0, ONE, (short) 0, i -> i == 0 ? 1 : -1));
        // element 160 + 16 is the second digit of byte 32, element 255 the fourth of byte 51: 1 · 27 and 1 · 3
        assertEquals("00".repeat(32) + "1d" + "00".repeat(18) + "04" + "003c", hex(GgmlType.TQ1_0, ONE, (short) 0, i -> i == 176 || i == 255 ? 0 : -1));
    }

    @Test
    void twoLevelScalesReachTheirWeights() {
        int[] scale = new int[16], minimum = new int[16], q = new int[256];
        scale[9] = 5;                            // weights 144 to 159
        minimum[9] = 7;
        q[150] = 3;                              // half 1, pair 0, byte 16 + 32 + 22
        byte[] raw = new byte[84];
        SuperBlocks.encode2(raw, 0, scale, minimum, q, TWO, ONE);
        assertEquals(0x75, raw[9]);
        assertEquals(3, raw[16 + 32 + 22]);
        float[] w = decoded(GgmlType.Q2_K, raw);
        assertEquals(2 * 5 * 3 - 7, w[150]);
        assertEquals(-7, w[151]);
        assertEquals(0, w[143]);
    }

    @Test
    void sixBitScalesAreSplit() {
        byte[] raw = new byte[144];
        Blocks.putHalf(raw, 0, ONE);
        Blocks.putHalf(raw, 2, ONE);
        raw[4 + 8] = 0x21;                       // sub-block 4: low bits of scale 1, of minimum 2
        raw[4] = 0x40;                           // its scale's upper bits: 1 → 17
        raw[4 + 4] = (byte) 0x80;                // its minimum's: 2 → 34
        raw[4 + 1] = 9;                          // sub-block 1: scale 9
        raw[16 + 64] = 0x03;                     // weight 128
        raw[16 + 5] = 0x20;                      // weight 32 + 5
        float[] w = decoded(GgmlType.Q4_K, raw);
        assertEquals(17 * 3 - 34, w[128]);
        assertEquals(-34, w[129]);
        assertEquals(9 * 2, w[37]);
        assertEquals(0, w[0]);
    }

    @Test
    void sixBitCodesAreSplit() {
        int[] scale = new int[16], q = new int[256];
        Arrays.fill(scale, -3);
        for (int i = 0; i < 256; i++) q[i] = i % 64 - 32;
        byte[] raw = new byte[210];
        SuperBlocks.encode6(raw, 0, scale, q, TWO);
        assertEquals("00", HexFormat.of().formatHex(raw, 0, 1));            // weights 0 and 64: low nibbles of 0
        assertEquals("88", HexFormat.of().formatHex(raw, 128, 129));        // weights 0, 32, 64, 96: pairs 0, 2, 0, 2
        float[] w = decoded(GgmlType.Q6_K, raw);
        for (int i = 0; i < 256; i++) assertEquals(2f * -3 * q[i], w[i]);
    }

    @ParameterizedTest
    @EnumSource(GgmlType.class)
    void whateverALatticeHoldsComesBack(GgmlType type) {
        if (!type.lattice()) {
            assertThrows(Fail.class, () -> type.encode(new byte[type.bytes], 0, new int[type.elements], 0, ONE, (short) 0));
            return;
        }
        Random random = new Random(type.id);
        for (int round = 0; round < 200; round++) {
            int[] q = new int[type.elements];
            for (int i = 0; i < q.length; i++) {
                do q[i] = type.lowest + random.nextInt(type.highest - type.lowest + 1);
                while (!type.holds(q[i]));
            }
            short d = Float.floatToFloat16(random.nextFloat()), m = type == GgmlType.Q4_1 ? Float.floatToFloat16(-random.nextFloat()) : 0;
            byte[] raw = new byte[type.bytes + 3];
            type.encode(raw, 3, q, 0, d, m);
            float[] w = new float[type.elements];
            type.decode(w, 0, raw, 3);
            for (int i = 0; i < q.length; i++) assertEquals(Float.float16ToFloat(d) * q[i] + Float.float16ToFloat(m), w[i], 0f);
        }
        int[] beyond = new int[type.elements];
        Arrays.fill(beyond, type.highest);
        beyond[type.elements - 1] = type.highest + 1;
        assertThrows(Fail.class, () -> type.encode(new byte[type.bytes], 0, beyond, 0, ONE, (short) 0));
    }

    @ParameterizedTest
    @EnumSource(GgmlType.class)
    void roundingStaysWithinAStep(GgmlType type) {
        if (!type.rounds()) {
            assertThrows(Fail.class, () -> type.round(new byte[type.bytes], 0, new float[type.elements], 0));
            return;
        }
        double step = switch (type) {
            case F32 -> 0;
            case F16 -> 0.002;
            case BF16 -> 0.01;
            case Q8_0 -> 1 / 127.0;
            case Q6_K -> 1 / 31.0 + 1 / 127.0;
            case Q4_0, Q4_1 -> 2 / 15.0;
            default -> 1;
        };
        Random random = new Random(1);
        for (int round = 0; round < 100; round++) {
            float[] w = new float[type.elements], back = new float[type.elements];
            float largest = 0;
            for (int i = 0; i < w.length; i++) {
                w[i] = round == 0 ? 0 : 4 * random.nextFloat() - 2;
                largest = Math.max(largest, Math.abs(w[i]));
            }
            byte[] raw = new byte[type.bytes];
            type.round(raw, 0, w, 0);
            type.decode(back, 0, raw, 0);
            // Q4_0's grid is lopsided: the far end may be one step off
            double most = largest * (type == GgmlType.Q4_0 ? step : step * 0.51) + 1e-3 * largest * (step > 0 ? 1 : 0);
            for (int i = 0; i < w.length; i++) assertEquals(w[i], back[i], (float) most, type + " weight " + i);
        }
    }

    @Test
    void segmentsDecodeAsBlocksDo() {
        Random random = new Random(4);
        for (GgmlType type : GgmlType.values()) {
            int blocks = 40_000 / type.elements;
            byte[] raw = new byte[blocks * type.bytes];
            random.nextBytes(raw);
            float[] all = new float[blocks * type.elements], one = new float[type.elements];
            type.decode(MemorySegment.ofArray(all), MemorySegment.ofArray(raw));
            for (int b = 0; b < blocks; b++) {
                type.decode(one, 0, raw, b * type.bytes);
                assertArrayEquals(one, Arrays.copyOfRange(all, b * type.elements, (b + 1) * type.elements), type.toString());
            }
        }
    }

    @Test
    void namesAndNumbersFindTheirTypes() {
        for (GgmlType t : GgmlType.values()) {
            assertEquals(t, GgmlType.of(t.id).orElseThrow());
            assertEquals(t, GgmlType.named(t.label()).orElseThrow());
        }
        assertTrue(GgmlType.of(4).isEmpty());
        assertTrue(GgmlType.named("Q4_0").isEmpty());
        assertFalse(GgmlType.Q1_0.holds(0));
        assertEquals(2.0625, GgmlType.TQ2_0.bitsPerWeight());
        assertEquals(1.6875, GgmlType.TQ1_0.bitsPerWeight());
        assertEquals(2.25, GgmlType.Q2_0.bitsPerWeight());
    }
}
