package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.train.Part;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The balance of keys and values: nothing changes in full precision, less is lost to rounding, and no matrix near it is better. */
final class KvBalanceTest {
    private static final int D = 8;

    @TempDir
    Path temp;

    private static double[] normal(int n, int key) {
        double[] v = new double[n];
        for (int i = 0; i < n; i++) v[i] = Philox.normal(4, i, key, 0);
        return v;
    }

    /** Aᵀ A */
    private static double[] moments(int key, double tall) {
        double[] a = normal(D * D, key), m = new double[D * D];
        for (int i = 0; i < D; i++) a[i] *= tall;
        for (int i = 0; i < D; i++) for (int j = 0; j < D; j++) for (int r = 0; r < D; r++) m[i * D + j] += a[r * D + i] * a[r * D + j];
        return m;
    }

    /** Mᵀ A M */
    private static double[] under(double[] a, double[] m) {
        double[] out = a.clone();
        Folds.right(out, m, D);
        Folds.left(out, m, D);
        return out;
    }

    private static double trace(double[] a) {
        double sum = 0;
        for (int i = 0; i < D; i++) sum += a[i * D + i];
        return sum;
    }

    /** tr(Mᵀ Σ M) · tr(M⁻¹ G M⁻ᵀ) */
    private static double loss(double[] sigma, double[] g, double[] m) {
        return trace(under(sigma, m)) * trace(under(g, Folds.transpose(Folds.inverse(m, D), D)));
    }

    @Test
    void theMatrixIsTheBestThereIsAndNoChannelStandsOut() {
        for (int key = 0; key < 5; key++) {
            double[] sigma = moments(10 * key, 20), g = moments(10 * key + 1, 5), m = KvBalance.matrix(sigma, g, Hadamard.sylvester(D), D), same = new double[D * D];
            for (int i = 0; i < D; i++) same[i * D + i] = 1;
            double best = loss(sigma, g, m);
            assertTrue(best < 0.8 * loss(sigma, g, same), best + " against " + loss(sigma, g, same) + " as it was");
            for (int n = 0; n < 200; n++) {
                double[] near = m.clone(), step = normal(D * D, 1000 + n);
                for (int i = 0; i < near.length; i++) near[i] += 0.02 * step[i] * Math.abs(m[i]);
                assertTrue(loss(sigma, g, near) > best * (1 - 1e-6), "a matrix nearby is better");
            }
            double[] values = under(sigma, m), weights = under(g, Folds.transpose(Folds.inverse(m, D), D));
            for (int i = 0; i < D; i++) {
                assertEquals(trace(values) / D, values[i * D + i], 1e-3 * trace(values), "channel " + i);
                assertEquals(trace(values) / D, weights[i * D + i], 1e-3 * trace(values), "weight of channel " + i);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3"})
    void whatIsComputedStaysAndRoundingCostsLess(String name) {
        String config = switch (name) {
            case "llama" -> Tiny.LLAMA;
            case "biased" -> Tiny.LLAMA_BIASED;
            case "qwen2" -> Tiny.QWEN2;
            default -> Tiny.QWEN3;
        };
        try (Backend be = new CpuBackend(1)) {
            MinMaxRounding rounding = new MinMaxRounding("32-32-3", -1, false, false);
            List<Row> rows = Loud.run(temp, be, Loud.write(temp, be, config, 6), List.of(rounding, new KvBalance(4, 32, 4, Part.ALL), rounding));
            assertEquals(0, rows.get(2).kl(), 1e-5, "the transform changes nothing");
            System.out.printf("keys and values at 3 bits: KL %.5f as they are, %.5f balanced%n", rows.get(1).kl(), rows.get(3).kl());
            assertTrue(rows.get(3).kl() < 0.95 * rows.get(1).kl(), rows.toString());
        }
    }
}
