package dev.qat.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Products of one token against the plain product of the same weights. */
class MatVecTest {
    private static PackedWeight trits(Memory m, int O, int I, int G, boolean bias) {
        Random random = new Random(O * 31L + I);
        int[] words = new int[O * (I / 16)];
        for (int i = 0; i < words.length; i++) for (int k = 0; k < 16; k++) words[i] |= random.nextInt(3) << 2 * k;
        float[] steps = new float[O * I / G], zeros = new float[steps.length], biases = new float[O];
        for (int i = 0; i < steps.length; i++) {
            steps[i] = 0.01f + random.nextFloat();
            zeros[i] = 1;
        }
        for (int i = 0; i < O; i++) biases[i] = (float) random.nextGaussian();
        Tensor w = m.tensor("words", DType.I32, O, I / 16), s = m.tensor("step", O, I / G), z = m.tensor("zero", O, I / G), b = bias ? m.tensor("bias", O) : null;
        m.set(w, words);
        m.set(s, steps);
        m.set(z, zeros);
        if (bias) m.set(b, biases);
        return new PackedWeight("w", 2, G, I, w, s, z, b);
    }

    @ParameterizedTest(name = "{0} x {1}, groups of {2}, {3} threads")
    @CsvSource({"1, 64, 64, 1", "3, 128, 64, 1", "4, 256, 256, 2", "7, 1024, 128, 1", "13, 4096, 4096, 2", "64, 768, 256, 3", "10, 1536, 768, 1"})
    void tritsGiveTheProduct(int O, int I, int G, int threads) {
        try (CpuBackend be = new CpuBackend(threads)) {
            Memory m = be.memory();
            PackedWeight p = trits(m, O, I, G, O % 2 == 1);
            float[] values = new float[I];
            Random random = new Random(I);
            for (int i = 0; i < I; i++) values[i] = i % 64 == 7 ? 511 / 64f : random.nextInt(-511, 512) / 64f; // what 10 bits hold exactly
            Tensor x = m.tensor("x", 1, I), w = m.tensor("w", O, I), y = m.tensor("y", 1, O), got = m.tensor("got", O);
            m.set(x, values);
            be.dequantize(w, p, p.step());
            be.linear(y, x, w, p.bias(), null);
            new MatVec(be).times(got, MatVec.Trits.of(p, be), x, p.bias(), null);
            float[] expected = m.floats(y);
            double largest = 1;
            for (float v : expected) largest = Math.max(largest, Math.abs(v));
            assertArrayEquals(expected, m.floats(got), (float) (3e-6 * largest));
            float[] vectors = m.floats(got);
            new MatVec(be, false).times(got, MatVec.Trits.of(p, be), x, p.bias(), null);
            assertArrayEquals(vectors, m.floats(got), "row by row, the same bits");
        }
    }

    @Test
    void everyRowOfABatchWithBiasAndResidual() {
        try (CpuBackend be = new CpuBackend(2)) {
            Memory m = be.memory();
            int N = 3, O = 70, I = 128;
            PackedWeight p = trits(m, O, I, 64, true);
            Random random = new Random(2);
            float[] values = new float[N * I], residual = new float[N * O];
            for (int i = 0; i < values.length; i++) values[i] = i % 64 == 7 ? 511 / 64f : random.nextInt(-511, 512) / 64f;
            for (int i = 0; i < residual.length; i++) residual[i] = (float) random.nextGaussian();
            Tensor x = m.tensor("x", N, I), plus = m.tensor("plus", N, O), w = m.tensor("w", O, I), y = m.tensor("y", N, O), got = m.tensor("got", N, O);
            m.set(x, values);
            m.set(plus, residual);
            be.dequantize(w, p, p.step());
            be.linear(y, x, w, p.bias(), plus);
            new MatVec(be).times(got, MatVec.Trits.of(p, be), x, p.bias(), plus);
            assertArrayEquals(m.floats(y), m.floats(got), 1e-3f);
        }
    }

    /** What rounding activations to 10 bits of the largest of 64 costs. */
    @Test
    void anyActivationsAreWithinTheirRounding() {
        try (CpuBackend be = new CpuBackend(1)) {
            Memory m = be.memory();
            int O = 100, I = 1024;
            PackedWeight p = trits(m, O, I, 128, false);
            float[] values = new float[I];
            Random random = new Random(5);
            for (int i = 0; i < I; i++) values[i] = (float) random.nextGaussian() * (i / 64 == 3 ? 100 : 1);
            Tensor x = m.tensor("x", 1, I), w = m.tensor("w", O, I), y = m.tensor("y", 1, O), got = m.tensor("got", O);
            m.set(x, values);
            be.dequantize(w, p, p.step());
            be.linear(y, x, w, null, null);
            new MatVec(be).times(got, MatVec.Trits.of(p, be), x, p.bias(), null);
            float[] expected = m.floats(y), is = m.floats(got);
            double error = 0, all = 0;
            for (int o = 0; o < O; o++) {
                error += Math.pow(is[o] - expected[o], 2);
                all += Math.pow(expected[o], 2);
            }
            assertEquals(0, Math.sqrt(error / all), 2e-3);
        }
    }

    /** Every activation at its largest and every weight a one: nothing overflows. */
    @Test
    void theLargestSumFits() {
        try (CpuBackend be = new CpuBackend(1)) {
            int O = 5, I = 8192;
            Memory m = be.memory();
            PackedWeight p = trits(m, O, I, I, false);
            int[] ones = new int[O * (I / 16)];
            java.util.Arrays.fill(ones, 0xAAAAAAAA);
            m.set(p.words(), ones);
            be.fill(p.step(), 1);
            Tensor x = m.tensor("x", I), y = m.tensor("y", O);
            for (float v : new float[] {3, -3}) {
                be.fill(x, v);
                new MatVec(be).times(y, MatVec.Trits.of(p, be), x, p.bias(), null);
                for (float got : m.floats(y)) assertEquals(v * I, got, 0.01);
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"1, 64, 1", "5, 192, 2", "33, 1024, 3"})
    void fp32AndBf16GiveTheProduct(int O, int I, int threads) {
        try (CpuBackend be = new CpuBackend(threads)) {
            Memory m = be.memory();
            Random random = new Random(O);
            float[] weights = new float[O * I], values = new float[I];
            short[] halves = new short[O * I];
            for (int i = 0; i < weights.length; i++) {
                halves[i] = Cells.bf16((float) random.nextGaussian());
                weights[i] = Float.intBitsToFloat(halves[i] << 16);
            }
            for (int i = 0; i < I; i++) values[i] = (float) random.nextGaussian();
            Tensor w = m.tensor("w", O, I), h = m.tensor("h", DType.BF16, O, I), x = m.tensor("x", 1, I), y = m.tensor("y", 1, O), got = m.tensor("got", O);
            m.set(w, weights);
            m.write(h, java.lang.foreign.MemorySegment.ofArray(halves));
            m.set(x, values);
            be.linear(y, x, w, null, null);
            for (Tensor stored : new Tensor[] {w, h}) {
                new MatVec(be).times(got, stored, x);
                assertArrayEquals(m.floats(y), m.floats(got), 1e-4f);
            }
        }
    }

    @Test
    void whatIsNoTritIsRefused() {
        try (CpuBackend be = new CpuBackend(1)) {
            Memory m = be.memory();
            assertThrows(Fail.class, () -> MatVec.Trits.of(trits(m, 2, 64, 32, false), be));
            PackedWeight p = trits(m, 2, 64, 64, false);
            m.set(p.words(), 3, 0, 0, 0, 0, 0, 0, 0);
            assertThrows(Fail.class, () -> MatVec.Trits.of(p, be));
        }
    }
}
