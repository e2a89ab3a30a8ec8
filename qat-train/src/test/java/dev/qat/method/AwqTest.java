package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.ops.Channels;
import java.util.List;
import org.junit.jupiter.api.Test;

/** AWQ's worked 3-bit example: the error of each exponent, the one that is chosen, the weight it leads to. */
final class AwqTest {
    private static final double[] X = {0.1, 2, -0.5, -0.3, 4, 0.2, 0.2, -3, 0.4}, W = {0.7, -0.13, -0.52, -0.45, 0.22, 0.31};
    private static final double[] MEANS = {0.2, 3, 0.36666666666666664};
    private static final Channels EACH = Channels.each(3, 1);

    private static AwqSearch search() {
        double[] h = new double[9];
        for (int t = 0; t < 3; t++) for (int i = 0; i < 3; i++) for (int j = 0; j < 3; j++) h[i * 3 + j] += X[t * 3 + i] * X[t * 3 + j];
        return new AwqSearch(h, 3, 3, 3, () -> {});
    }

    @Test
    void theErrorOfEachExponent() {
        double[][] known = {{0, 0.0094596}, {0.15, 0.0003806}, {0.5, 0.0031874}, {0.9, 0.0004340}, {0.95, 0.0003189}};
        for (double[] k : known) assertEquals(k[1], search().loss(W, AwqSearch.candidate(MEANS, k[0]), EACH) / 6, 1e-7, "r = " + k[0]);
    }

    @Test
    void theBestScaleAndWhatTheWeightBecomes() {
        double[] s = search().scales(MEANS, List.of(W), EACH);
        assertArrayEquals(new double[] {0.2762846, 3.6194564, 0.491401}, s, 1e-6);
        double[] scaled = new double[6];
        for (int i = 0; i < 6; i++) scaled[i] = W[i] * s[i % 3];
        float[] q = search().scaled(s, EACH).clipped(scaled, false).values();
        double[] known = {0.6865887, -0.1310237, -0.57904, -0.4760146, 0.2180142, 0.2676338};
        for (int i = 0; i < 6; i++) assertEquals(known[i], q[i] / s[i % 3], 1e-6);
    }

    /** A clip is taken only where the outputs gain from it. */
    @Test
    void clippingNeverHurtsTheErrorItLooksAt() {
        double[] h = search().h();
        double plain = GptqTest.error(search().clipped(W, false).values(), W, h, 3), clipped = GptqTest.error(search().clipped(W, true).values(), W, h, 3);
        assertTrue(clipped <= plain, clipped + " against " + plain);
    }
}
