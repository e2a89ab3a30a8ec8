package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.data.StoredType;
import dev.qat.export.PackedFormat.Part;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigInteger;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** The bit layouts of GPTQ, AWQ and compressed-tensors, against numbers worked out by hand. */
class PackingTest {
    /** Codes (o · 7 + i) mod 2^bits, steps 1 + o / 8, zero points given. */
    private static Lattice counted(int bits, int rows, int cols, int group, int zero) {
        int[] codes = new int[rows * cols];
        for (int o = 0; o < rows; o++) for (int i = 0; i < cols; i++) codes[o * cols + i] = (7 * o + i) % (1 << bits);
        float[] step = new float[rows * (cols / group)], zeros = new float[step.length];
        for (int k = 0; k < step.length; k++) step[k] = 1 + k / (cols / group) / 8f;
        Arrays.fill(zeros, zero);
        return Lattice.of("p", bits, group, rows, cols, codes, step, zeros);
    }

    private static int[] ints(List<Part> parts, int i) {
        return parts.get(i).bytes().toArray(ValueLayout.JAVA_INT_UNALIGNED);
    }

    private static List<Part> parts(PackedFormat format, Lattice l) {
        format.check(l);
        List<Part> parts = format.parts(l, HalfSteps.of(l, Half.FP16));
        assertEquals(format.slots(l).size(), parts.size());
        for (int i = 0; i < parts.size(); i++) {
            assertEquals(format.slots(l).get(i).name(), parts.get(i).slot().name());
            assertEquals(parts.get(i).slot().bytes(), parts.get(i).bytes().byteSize(), parts.get(i).slot().name());
        }
        return parts;
    }

    /** 0 stands third, + − +: 2 | 1 << 2 | 1 << 4; first, − − −: 0; last, + + +: 3 | 7 << 2; then second, − + −: 1 | 1 << 3. Five bits each, from the lowest on. */
    @Test
    void fourTritsWithOneZeroAreFiveBits() {
        int[] codes = {2, 0, 1, 2, 1, 0, 0, 0, 2, 2, 2, 1, 0, 1, 2, 0};
        int[] twice = IntStream.concat(Arrays.stream(codes), Arrays.stream(codes)).toArray();
        Lattice l = Lattice.of("p", 2, 16, 2, 16, twice, new float[] {1, 1}, new float[] {1, 1});
        int row = 0b01001_11111_00000_10110;
        assertArrayEquals(new int[] {row, row}, Quads.pack(l));
        assertArrayEquals(new byte[] {0x16, (byte) 0xfc, 0x04, 0x00}, MemorySegment.ofArray(new int[] {row}).toArray(ValueLayout.JAVA_BYTE));
        assertArrayEquals(twice, Quads.unpack(new int[] {row, row}, 2, 16));
        int[] all = IntStream.range(0, 128).map(i -> i % 4 == i / 4 % 4 ? 1 : (i * 7 / 5 & 1) * 2).toArray();
        int[] words = Quads.pack(Lattice.of("p", 2, 4, 1, 128, all, new float[32], new float[32]));
        assertEquals(128 * 5 / 4, 32 * words.length);
        assertArrayEquals(all, Quads.unpack(words, 1, 128));
        assertTrue(assertThrows(Fail.class, () -> Quads.pack(Lattice.of("p", 2, 4, 1, 4, new int[] {1, 1, 2, 0}, new float[1], new float[1]))).getMessage().contains("three signs and a zero"));
    }

    @Test
    void aBitStreamIsOneLongNumber() {
        Random random = new Random(2);
        for (int bits = 1; bits <= 8; bits++) {
            int[] codes = random.ints(101, 0, 1 << bits).toArray(), words = new int[(101 * bits + 31) / 32 + 1], back = new int[101];
            BitStream.pack(words, 1, codes, 0, 101, bits);
            BigInteger number = BigInteger.ZERO;
            for (int i = 100; i >= 0; i--) number = number.shiftLeft(bits).or(BigInteger.valueOf(codes[i]));
            for (int w = 1; w < words.length; w++) assertEquals(number.shiftRight(32 * (w - 1)).intValue(), words[w]);
            BitStream.unpack(back, 0, words, 1, 101, bits);
            assertArrayEquals(codes, back);
        }
    }

    @Test
    void gptqWordsHoldAColumn() {
        List<Part> parts = parts(new GptqOut(2), counted(4, 8, 16, 8, 8));
        int[] words = ints(parts, 0);                        // (2, 8)
        assertEquals(0x76543210, words[0]);                  // inputs 0 to 7 of output 0
        assertEquals(0xfedcba98, words[8]);                  // inputs 8 to 15
        assertEquals(0xedcba987, words[1]);                  // output 1 begins with 7
        assertArrayEquals(new int[] {0x88888888, 0x88888888}, ints(parts, 1));
        short[] scales = parts.get(2).bytes().toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
        assertEquals(0x3c00, scales[0]);                     // (groups, outputs): 1, 1.125, ...
        assertEquals(0x3c80, scales[1]);
        assertEquals(0x3c00, scales[8]);
        assertArrayEquals(new int[] {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}, ints(parts, 3));
    }

    @Test
    void gptqOneStoresZerosLessOne() {
        assertArrayEquals(new int[] {0x77777777}, ints(parts(new GptqOut(1), counted(4, 8, 16, 16, 8)), 1));
        assertArrayEquals(new int[] {0x55555555}, ints(parts(new GptqOut(1), counted(2, 16, 16, 16, 2)), 1));
        assertArrayEquals(new int[] {0xaaaaaaaa}, ints(parts(new GptqOut(2), counted(2, 16, 16, 16, 2)), 1));
        assertArrayEquals(new int[] {0x7f7f7f7f}, ints(parts(new GptqOut(1), counted(8, 4, 16, 16, 128)), 1));
        Lattice zero = counted(4, 8, 16, 16, 0);
        Failing.with(Fail.USAGE, () -> new GptqOut(1).check(zero), "zero point of 0", "gptq-v2");
        assertArrayEquals(new int[] {0}, ints(parts(new GptqOut(2), zero), 1));
    }

    @Test
    void threeBitsAreOneStreamOverThreeWords() {
        // codes 0..7 four times: 24 bits 0xFAC688, repeated in a 96-bit number
        int[] words = ints(parts(new GptqOut(2), counted(3, 32, 32, 32, 4)), 0); // (3, 32)
        assertEquals(0x88fac688, words[0]);
        assertEquals(0xc688fac6, words[32]);
        assertEquals(0xfac688fa, words[64]);
        assertArrayEquals(new int[] {0x24924924, 0x49249249, 0x92492492}, ints(parts(new GptqOut(2), counted(3, 32, 32, 32, 4)), 1));
    }

    @Test
    void gptqRefusesWhatItCannotPack() {
        Failing.with(Fail.USAGE, () -> new GptqOut(2).shape("p", 4, 8, 172), "8 x 172", "multiples of 8");
        Failing.with(Fail.USAGE, () -> new GptqOut(2).shape("p", 3, 16, 32), "multiples of 32");
        assertEquals(8, new GptqOut(2).bits(counted(5, 8, 32, 32, 16)));
        assertEquals(2, new GptqOut(2).bits(counted(1, 8, 32, 32, 0)));
    }

    @Test
    void awqWordsHoldEightOutputsInItsOrder() {
        int[] codes = {10, 11, 12, 13, 14, 15, 9, 8};        // one input of outputs 0 to 7
        Lattice l = Lattice.of("p", 4, 1, 8, 1, codes, new float[] {1, 1, 1, 1, 1, 1, 1, 1}, new float[] {0, 1, 2, 3, 4, 5, 6, 7});
        List<Part> parts = parts(new AwqOut(), l);
        // nibbles from the lowest: outputs 0, 2, 4, 6, 1, 3, 5, 7
        assertArrayEquals(new int[] {0x8fdb9eca}, ints(parts, 0));
        assertArrayEquals(new int[] {0x75316420}, ints(parts, 1));
        Failing.with(Fail.USAGE, () -> new AwqOut().bits(counted(8, 8, 16, 16, 128)), "AWQ holds 4");
        Failing.with(Fail.USAGE, () -> new AwqOut().shape("p", 4, 12, 16), "12 outputs");
    }

    @Test
    void compressedTensorsPackRowsAndZeroColumns() {
        Lattice l = counted(3, 3, 12, 12, 4);
        List<Part> parts = parts(new CompressedTensorsOut(true, Half.FP16), l);
        assertEquals(3, parts.size());                        // no zero points
        int[] words = ints(parts, 0);                         // (3, 2): 36 bits, then zeros
        assertEquals(0x88fac688, words[0]);
        assertEquals(0x6, words[1]);                          // codes 0 to 3 again: bits 24 to 35 are 0x688
        assertArrayEquals(new long[] {3, 12}, parts.get(2).bytes().toArray(ValueLayout.JAVA_LONG_UNALIGNED));
        Lattice odd = new Lattice("p", 3, 12, 3, 12, l.words(), l.step(), new float[] {1, 2, 3}, null);
        parts = parts(new CompressedTensorsOut(false, Half.FP16), odd);
        assertArrayEquals(new int[] {1 | 2 << 3 | 3 << 6}, ints(parts, 3)); // (1, 1): a column of three zero points
    }

    @Test
    void wideningKeepsEveryWeight() {
        Lattice narrow = counted(3, 4, 16, 8, 3), wide = narrow.widened(4);
        float[] a = new float[16], b = new float[16];
        for (int r = 0; r < 4; r++) {
            narrow.weights(a, r, narrow.step());
            wide.weights(b, r, wide.step());
            assertArrayEquals(a, b);
        }
        assertEquals(4, wide.bits());
        assertTrue(counted(3, 4, 16, 8, 4).symmetric());
        assertFalse(narrow.symmetric());
    }

    /** 0.1 is 0x3dcccccd, so bf16 rounds it up; 3.1415927 is 0x40490fdb and goes down; 1 + 3·2⁻⁸ is a tie and goes to the even neighbour. */
    @Test
    void stepsOfModelsInBf16AreTheUpperHalfOfTheirBits() {
        Lattice l = Lattice.of("p", 4, 2, 1, 8, new int[8], new float[] {0.1f, 3.1415927f, 1 + 3 / 256f, 1e30f}, new float[] {8, 8, 8, 8});
        CompressedTensorsOut format = new CompressedTensorsOut(true, Half.BF16);
        Part scales = format.parts(l, HalfSteps.of(l, format.half())).get(1);
        assertEquals(StoredType.BF16, scales.slot().dtype());
        assertArrayEquals(new short[] {0x3dcd, 0x4049, 0x3f82, 0x714a}, scales.bytes().toArray(ValueLayout.JAVA_SHORT_UNALIGNED));
        assertEquals(3.140625f, HalfSteps.of(l, Half.BF16).values()[1]);
        Failing.with(Fail.DATA, () -> HalfSteps.of(l, Half.FP16), "in fp16");
    }

    @Test
    void stepsAreRoundedToHalfAndItIsSaid() {
        Lattice l = Lattice.of("p", 4, 2, 1, 4, new int[4], new float[] {1 + 1 / 4096f, 0.5f}, new float[2]);
        HalfSteps h = HalfSteps.of(l, Half.FP16);
        assertArrayEquals(new short[] {0x3c00, 0x3800}, h.bits());
        assertEquals(1 / 4097.0, h.maxMove(), 1e-9);
        Lattice small = Lattice.of("p", 4, 2, 1, 2, new int[2], new float[] {1e-9f}, new float[1]);
        Failing.with(Fail.DATA, () -> HalfSteps.of(small, Half.FP16), "1.0E-9", "becomes 0.0");
        Lattice large = Lattice.of("p", 4, 2, 1, 2, new int[2], new float[] {1e6f}, new float[1]);
        Failing.with(Fail.DATA, () -> HalfSteps.of(large, Half.FP16), "Infinity");
        assertEquals(0, HalfSteps.of(Lattice.of("p", 4, 2, 1, 2, new int[2], new float[1], new float[1]), Half.FP16).maxMove());
    }
}
