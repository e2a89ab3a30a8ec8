package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Tokens of two heads packed one after the other at places of their own come back as rowQuant makes their heads (but for the sign of zeros), and nothing else is touched. */
final class IntegerCacheTest {
    private static final int B = 3, TMAX = 5, M = 2, C = 40;

    @ParameterizedTest(name = "{0} bits, symmetric {1}, fast {2}")
    @CsvSource({"2, true, true", "3, true, true", "4, true, true", "8, true, true", "16, true, true", "4, false, true", "8, false, true", "4, true, false", "5, false, false"})
    void packedAndUnpackedIsRowQuant(int bits, boolean symmetric, boolean fast) {
        try (Backend be = fast ? new CpuBackend(2) : new ReferenceBackend()) {
            Memory m = be.memory();
            RowGrid grid = new RowGrid(bits, symmetric, false);
            Tensor codes = m.tensor("codes", DType.I32, B, TMAX, M * PackedWeight.wordsPerRow(C, bits)), scales = m.tensor("scales", B, TMAX, M * grid.numbers());
            Tensor x = m.tensor("x", B, M * C), y = m.tensor("y", B, TMAX, M * C), fake = m.tensor("fake", B, M * C), positions = m.tensor("positions", DType.I32, B), lengths = m.tensor("lengths", DType.I32, B);
            be.fill(y, 7);
            be.fill(scales, 3);
            m.set(codes, new int[(int) codes.size()]);
            float[] expected = new float[B * TMAX * M * C];
            java.util.Arrays.fill(expected, 7);
            Random random = new Random(bits);
            int[][] places = {{0, 1, 3}, {1, 2, 0}, {2, 0, 4}};
            for (int[] place : places) {
                float[] v = new float[B * M * C];
                for (int i = 0; i < v.length; i++) v[i] = (float) random.nextGaussian() * 3;
                m.set(x, v);
                m.set(positions, place);
                be.cachePack(codes, scales, x, positions, grid);
                be.rowQuant(fake.view(0, B * M, C), x.view(0, B * M, C), grid);
                float[] rows = m.floats(fake);
                for (int b = 0; b < B; b++) for (int i = 0; i < M * C; i++) expected[(b * TMAX + place[b]) * M * C + i] = rows[b * M * C + i] + 0f; // a code has no −0
            }
            m.set(lengths, 3, 3, 1);
            be.cacheUnpack(y, codes, scales, lengths, grid);
            java.util.Arrays.fill(expected, (2 * TMAX + 1) * M * C, expected.length, 7);
            assertArrayEquals(expected, m.floats(y));
            assertEquals(3, m.floats(scales)[3 * M * grid.numbers()], "a place that was not written");
        }
    }
}
