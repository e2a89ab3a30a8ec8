package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.model.Linear;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import dev.qat.train.Step;
import dev.qat.train.TinyModels;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** LLM-QAT's four and two levels against the formulas as they are written, and that codes are what was trained. */
final class MeanLevelsTest {
    private static final double[] ROW = {0.31, -0.92, 0.05, 0.47};

    @TempDir
    Path temp;

    /** The official expressions in double precision. */
    private static double[] formula(double[] w, int bits) {
        double mean = 0;
        for (double v : w) mean += Math.abs(v) / w.length;
        double[] out = new double[w.length];
        for (int i = 0; i < w.length; i++) {
            double s = 2 * mean;
            out[i] = bits == 1 ? mean * Math.signum(w[i]) : s * (Math.rint(Math.clamp(w[i] / s, -0.99, 0.99) * 2 - 0.5) + 0.5) / 2;
        }
        return out;
    }

    @Test
    void theWorkedRow() {
        assertArrayEquals(new double[] {0.218750, -0.656250, 0.218750, 0.656250}, formula(ROW, 2), 1e-12);
    }

    @ParameterizedTest
    @CsvSource({"2, -1, true", "2, 16, false", "1, -1, true", "1, 32, false"})
    void whatIsComputedIsTheFormulaAndWhatIsFrozenIsTheSame(int bits, int group, boolean reference) {
        try (Backend be = reference ? new ReferenceBackend() : new CpuBackend(2)) {
            Linear l = TinyModels.load(TinyModels.write(temp.resolve("m"), be, 5), be).blocks().getFirst().down;
            int I = (int) l.inputs(), G = group < 0 ? I : group;
            float[] w = be.memory().floats(l.weight.value());
            for (int i = 0; i < w.length; i++) w[i] = (float) (0.3 * Philox.normal(3, i, 0, 0));
            for (int i = 0; i < I; i++) w[i] = (float) ROW[i % 4];
            be.memory().set(l.weight.value(), w);
            MeanLevels q = MeanLevels.install(be, List.of(l), bits, List.of(G)).getFirst();
            Tensor fake = be.memory().tensor("fake", l.weight.value().dims()), packed = be.memory().tensor("packed", fake.dims());
            try (Step step = new Step(be, "levels", false, t -> t.backend().copy(fake, l.weightSite.through(t, l.weight.value())))) {
                step.run();
            }
            float[] got = be.memory().floats(fake);
            for (int at = 0; at < w.length; at += G) {
                double[] row = new double[G];
                for (int i = 0; i < G; i++) row[i] = w[at + i];
                double[] expected = formula(row, bits);
                for (int i = 0; i < G; i++) assertEquals(expected[i], got[at + i], 2e-6, "weight " + (at + i));
            }
            if (bits == 2) for (int i = 0; i < 4; i++) assertEquals(new double[] {0.218750, -0.656250, 0.218750, 0.656250}[i], got[i], 1e-6);
            PackedWeight p = q.freeze(be);
            be.dequantize(packed, p, p.step());
            assertArrayEquals(got, be.memory().floats(packed));
        }
    }
}
