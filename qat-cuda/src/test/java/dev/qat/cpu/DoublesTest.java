package dev.qat.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.ops.Philox;
import java.util.concurrent.ForkJoinPool;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Products and inverses of doubles against sums written out, on both sides of every size at which another way is taken. */
final class DoublesTest {
    private static double[] random(int n, int key) {
        double[] v = new double[n];
        for (int i = 0; i < n; i++) v[i] = Philox.normal(key, i, 0, 0);
        return v;
    }

    @ParameterizedTest
    @CsvSource({"1, 1, 1", "3, 5, 2", "31, 33, 32", "512, 40, 9", "513, 8, 64", "1025, 17, 3", "5, 9, 1024", "7, 11, 1025", "520, 3, 1030"})
    void products(int m, int k, int n) {
        for (int t = 0; t < 4; t++) {
            boolean ta = (t & 1) != 0, tb = (t & 2) != 0;
            double[] a = random(m * k, 1), b = random(k * n, 2), got = Doubles.product(a, ta, b, tb, m, k, n);
            for (int i = 0; i < m; i++) {
                for (int j = 0; j < n; j++) {
                    double sum = 0;
                    for (int c = 0; c < k; c++) sum += a[ta ? c * m + i : i * k + c] * b[tb ? j * k + c : c * n + j];
                    assertEquals(sum, got[i * n + j], 1e-12 * k, "(%d, %d), transposed: %s, %s".formatted(i, j, ta, tb));
                }
            }
        }
    }

    /** I + A, A = −Aᵀ of any size, here as large as a step makes it and larger. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 31, 32, 33, 65, 200})
    void inverses(int n) {
        double[] x = random(n * n, 3), m = new double[n * n];
        for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) m[i * n + j] = (i == j ? 1 : 0) + 0.5 * (x[i * n + j] - x[j * n + i]);
        double[] one = Doubles.product(m, false, Doubles.inverse(m, n), false, n, n, n);
        for (int i = 0; i < n * n; i++) assertEquals(i % (n + 1) == 0 ? 1 : 0, one[i], 1e-11);
    }

    @Test
    void howManyThreadsThereAreDoesNotMatter() throws Exception {
        int n = 600;
        double[] a = random(n * n, 4), b = random(n * n, 5), many = Doubles.product(a, false, b, true, n, n, n);
        try (ForkJoinPool one = new ForkJoinPool(1)) {
            assertArrayEquals(many, one.submit(() -> Doubles.product(a, false, b, true, n, n, n)).get());
        }
    }
}
