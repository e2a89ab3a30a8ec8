package dev.qat.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.eval.Statistics.Difference;
import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.Random;
import org.apache.commons.math3.stat.descriptive.DescriptiveStatistics;
import org.apache.commons.math3.stat.inference.TestUtils;
import org.junit.jupiter.api.Test;

class StatisticsTest {
    private static Perplexity of(double[] sums, int... counts) {
        int[] all = counts.length == 1 ? Arrays.stream(sums).mapToInt(_ -> counts[0]).toArray() : counts;
        double tokens = Arrays.stream(all).sum();
        return new Perplexity(Protocol.WINDOWS, 8, (long) tokens, Arrays.stream(sums).sum() / tokens, Statistics.error(sums, all), sums, all);
    }

    @Test
    void withEqualWindowsTheErrorIsThatOfTheirMeans() {
        double[] sums = {8, 16, 12, 20, 9};
        double expected = new DescriptiveStatistics(Arrays.stream(sums).map(s -> s / 4).toArray()).getStandardDeviation() / Math.sqrt(5);
        assertEquals(expected, Statistics.error(sums, new int[] {4, 4, 4, 4, 4}), 1e-12);
        assertTrue(Double.isNaN(Statistics.error(new double[] {8}, new int[] {4})));
    }

    /** Worked by hand: mean 16/8 = 2; deviations 0−1·2 = −2, 10−4·2 = 2, 6−3·2 = 0; √(3/2 · 8)/8. */
    @Test
    void withUnequalWindowsItIsTheRatioEstimators() {
        assertEquals(Math.sqrt(12) / 8, Statistics.error(new double[] {0, 10, 6}, new int[] {1, 4, 3}), 1e-12);
    }

    /** Ratio estimates of 20,000 resampled texts scatter as the error says: what it means, shown. */
    @Test
    void theErrorIsTheSpreadOfResampledTexts() {
        Random random = new Random(1);
        int n = 60, texts = 20_000;
        double[] estimates = new double[texts];
        double claimed = 0;
        for (int k = 0; k < texts; k++) {
            double[] sums = new double[n];
            int[] counts = new int[n];
            for (int i = 0; i < n; i++) {
                counts[i] = 5 + random.nextInt(20);
                sums[i] = counts[i] * (2 + random.nextGaussian());
            }
            estimates[k] = Arrays.stream(sums).sum() / Arrays.stream(counts).sum();
            claimed += Statistics.error(sums, counts) / texts;
        }
        assertEquals(new DescriptiveStatistics(estimates).getStandardDeviation(), claimed, 0.03 * claimed);
    }

    @Test
    void aShareHasTheErrorThatLmEvalPrints() {
        assertEquals(Math.sqrt(0.24 * 0.76 / 199), Statistics.error(0.24, 200), 1e-15);
        assertTrue(Double.isNaN(Statistics.error(1, 1)));
    }

    @Test
    void thePairedTestIsStudentsWhereWindowsAreEqual() {
        Random random = new Random(2);
        double[] a = random.doubles(30, 10, 20).toArray(), b = Arrays.stream(a).map(x -> x - 0.3 + 0.5 * random.nextGaussian()).toArray();
        Difference d = Statistics.paired(of(a, 4), of(b, 4));
        assertEquals(TestUtils.pairedTTest(a, b), d.p(), 1e-12);
        assertEquals(TestUtils.pairedT(a, b), d.t(), 1e-9);
        assertEquals((Arrays.stream(a).sum() - Arrays.stream(b).sum()) / 120, d.nll(), 1e-12);
        assertTrue(d.p() < 0.05 && d.nll() > 0, "the first is worse: " + d);
        assertEquals(-d.nll(), Statistics.paired(of(b, 4), of(a, 4)).nll(), 1e-12);
    }

    @Test
    void oneModelDoesNotDifferFromItself() {
        Perplexity p = of(new double[] {3, 5, 4}, 2);
        assertEquals(1, Statistics.paired(p, p).p());
        assertEquals(0, Statistics.paired(p, p).nll());
        assertEquals(Fail.INTERNAL, assertThrows(Fail.class, () -> Statistics.paired(p, of(new double[] {3, 5}, 3))).code());
    }
}
