package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;
import org.junit.jupiter.api.Test;

class SampleTest {
    private static final float[] LOGITS = {0, 2, 1, 2, -30};

    @Test
    void greedyTakesTheFirstOfTheLargest() {
        assertArrayEquals(new int[] {1, 1}, draw(Sampling.GREEDY, 2, LOGITS));
    }

    @Test
    void frequenciesAreTheSoftmaxOfWhatIsKept() {
        double e2 = Math.exp(2), e1 = Math.exp(1);
        frequencies(new Sampling(1, 0, 1, 5), 1 / (1 + 2 * e2 + e1), e2 / (1 + 2 * e2 + e1), e1 / (1 + 2 * e2 + e1), e2 / (1 + 2 * e2 + e1), 0);
        frequencies(new Sampling(0.5f, 3, 1, 5), 0, e2 * e2 / (2 * e2 * e2 + e2), e2 / (2 * e2 * e2 + e2), e2 * e2 / (2 * e2 * e2 + e2), 0);
    }

    @Test
    void ofEqualLogitsTheFirstIsKeptByTopK() {
        frequencies(new Sampling(1, 1, 1, 5), 0, 1, 0, 0, 0);
    }

    @Test
    void aNucleusIsTheFewestThatReachItsShare() {
        frequencies(new Sampling(1, 0, 0.3f, 5), 0, 1, 0, 0, 0);
        frequencies(new Sampling(1, 0, 0.5f, 5), 0, 0.5, 0, 0.5, 0);
    }

    @Test
    void aShareThatIsReachedExactlyIsReached() {
        assertEquals(200, count(draw(new Sampling(1, 0, 0.5f, 5), 200, 1, 1), 0));
    }

    @Test
    void theDrawIsTheInverseOfTheDistributionInOrderOfTokens() {
        Sampling sampling = new Sampling(1, 0, 1, 99);
        int[] ids = draw(sampling, 300, 0, 0, 0, 0);
        for (int b = 0; b < ids.length; b++) assertEquals((int) (4 * Philox.uniform(99, 0, b, 7)), ids[b]);
    }

    @Test
    void nanIsNoToken() {
        assertArrayEquals(new int[] {-1}, draw(Sampling.GREEDY, 1, 1, Float.NaN, 2));
        assertArrayEquals(new int[] {-1}, draw(new Sampling(1, 2, 0.9f, 1), 1, 1, 2, Float.NaN));
    }

    private static void frequencies(Sampling sampling, double... expected) {
        int n = 4000;
        int[] ids = draw(sampling, n, LOGITS);
        for (int v = 0; v < expected.length; v++) {
            double got = (double) count(ids, v) / n;
            assertTrue(Math.abs(got - expected[v]) <= (expected[v] == 0 || expected[v] == 1 ? 0 : 0.035), "token %d drawn %s, expected %s".formatted(v, got, expected[v]));
        }
    }

    private static int count(int[] ids, int v) {
        int n = 0;
        for (int id : ids) if (id == v) n++;
        return n;
    }

    /** The same logits for n sequences, at position 7. */
    private static int[] draw(Sampling sampling, int n, float... logits) {
        try (Backend b = new ReferenceBackend()) {
            Tensor rows = b.memory().tensor("logits", n, logits.length), ids = b.memory().tensor("ids", DType.I32, n), keys = b.memory().tensor("keys", DType.I32, n, 2);
            float[] all = new float[n * logits.length];
            int[] key = new int[2 * n];
            for (int i = 0; i < all.length; i++) all[i] = logits[i % logits.length];
            for (int i = 0; i < n; i++) {
                key[2 * i] = i;
                key[2 * i + 1] = 7;
            }
            b.memory().set(rows, all);
            b.memory().set(keys, key);
            b.sample(ids, rows, keys, sampling);
            return b.memory().ints(ids);
        }
    }
}
