package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What transforms leave as it is, in numbers worked out outside of this project; beside each, the mistake that changes them. */
final class WorkedTransformsTest {
    private static final double[] Q = {1, 2, 3, 4}, K = {0.5, -1, 2, 0.25}, PHI = {0.5, -0.3}, S = {2, 0.5}, INVERSE = {0.5, 2}, ANGLES = {1, 0.1};
    /** Where an interleaved head's channels lie in a half-split one. */
    private static final int[] HALVES = {0, 2, 1, 3};

    private static double dot(double[] a, double[] b) {
        return IntStream.range(0, a.length).mapToDouble(i -> a[i] * b[i]).sum();
    }

    /** One head after rope, pairs (j, j + D/2). */
    private static double[] rope(double[] x, int position, double... angles) {
        double[] y = x.clone();
        double[] phi = new double[angles.length], one = new double[angles.length];
        for (int j = 0; j < angles.length; j++) {
            phi[j] = position * angles[j];
            one[j] = 1;
        }
        Folds.turn(y, 1, x.length, 1, phi, one);
        return y;
    }

    private static double[] turned(double[] x, double[] phi, double[] s) {
        double[] y = x.clone();
        Folds.turn(y, 1, x.length, 1, phi, s);
        return y;
    }

    private static double[] permuted(double[] x) {
        return IntStream.range(0, x.length).mapToDouble(i -> x[HALVES[i]]).toArray();
    }

    private static double score(double[] q, double[] k) {
        return dot(rope(q, 7, ANGLES), rope(k, 3, ANGLES));
    }

    @Test
    void scoresAfterRopeStay() {
        assertArrayEquals(new double[] {-1.217058, -1.047186, 2.918693, 4.347804}, rope(Q, 7, ANGLES), 1e-6);
        assertEquals(-3.7957632, score(Q, K), 1e-7);
        assertEquals(-3.7957632, score(turned(Q, PHI, INVERSE), turned(K, PHI, S)), 1e-7);
        double[] k = {0.5 * 2, -1, 2 * 0.5, 0.25}, q = {1 / 2.0, 2, 3 / 0.5, 4};
        assertEquals(0.7450517, score(q, k), 1e-7, "channels of a pair scaled apart");
    }

    @Test
    void interleavedPairsAreTurnedAsPairs() {
        double[] q = permuted(Q), k = permuted(K), kt = turned(k, PHI, S), qt = turned(q, PHI, INVERSE);
        assertArrayEquals(new double[] {1.836434, -1.275740, 0.992277, -0.176103}, permuted(kt), 1e-6);
        assertArrayEquals(new double[] {-0.040634, 1.117295, 8.096181, 5.869571}, permuted(qt), 1e-6);
        assertEquals(6.1182144, score(q, k), 1e-7);
        assertEquals(6.1182144, score(qt, kt), 1e-7);
        assertEquals(-5.9388652, score(permuted(turned(Q, PHI, INVERSE)), permuted(turned(K, PHI, S))), 1e-7, "half-split pairs under interleaved rope");
    }

    /** Queries and keys with norms of their own: scales of pairs go into the gains. */
    @ParameterizedTest
    @CsvSource({"1, 1", "2, 0.5"})
    void scoresBehindNormsStay(double first, double second) {
        double[] gq = {1, 0.5, 2, 1.5}, gk = {0.7, 1.2, 0.9, 1.1}, s = {first, second, first, second}, q = new double[4], k = new double[4];
        double rq = 1 / Math.sqrt(dot(Q, Q) / 4 + 1e-6), rk = 1 / Math.sqrt(dot(K, K) / 4 + 1e-6);
        for (int i = 0; i < 4; i++) {
            q[i] = Q[i] * rq * gq[i] / s[i];
            k[i] = K[i] * rk * gk[i] * s[i];
        }
        assertEquals(-1.1836475, score(q, k), 1e-7);
    }

    @Test
    void aMergedTurnLeavesTheScore() {
        double[] wk = {1, 0, 2, 0, -1, 1}, wq = {0.5, 1, 0, 1, 0, -1}, x = {1, 2, 3}, y = {-1, 0.5, 2};
        for (int merged = 0; merged < 2; merged++) {
            assertEquals(5.9334977, dot(rope(times(wq, y), 4, 1), rope(times(wk, x), 1, 1)), 1e-7, merged == 1 ? "merged" : "before");
            Folds.turn(wk, 1, 2, 1, new double[] {Math.PI / 6}, new double[] {2});
            Folds.turn(wq, 1, 2, 1, new double[] {Math.PI / 6}, new double[] {0.5});
        }
    }

    /** W x */
    private static double[] times(double[] w, double[] x) {
        return IntStream.range(0, w.length / x.length).mapToDouble(o -> IntStream.range(0, x.length).mapToDouble(i -> w[o * x.length + i] * x[i]).sum()).toArray();
    }

    // ---- values ------------------------------------------------------------------------------------------------------

    private static final double[] WV = {2, 1, 0, -2, -1, -3, -3, -3, -2, 2, 1, 3}, WO = {0, 1, 3, 2, 1, 0, 0, 3, -2, 2, 1, -3, -1, 3, 0, -3, 2, 2, 2, -2, -3, 3, -3, 0};
    private static final double[][] X = {{-3, -1, 0}, {-1, -1, -3}, {-3, -3, -3}}, LOOKS = {{0.5, 0.25, 0.25}, {0.25, 0.5, 0.25}, {0, 0.5, 0.5}, {1, 0, 0}};

    /** Four query heads over two key/value heads of two channels. */
    private static double[] attention(double[] wv, double[] wo) {
        double[] o = new double[8];
        for (int h = 0; h < 4; h++) for (int t = 0; t < 3; t++) for (int d = 0; d < 2; d++) o[2 * h + d] += LOOKS[h][t] * times(wv, X[t])[h / 2 * 2 + d];
        return times(wo, o);
    }

    @Test
    void valuesOfGroupedHeadsStay() {
        double[][] m = {{2, 1, 0, 0.5}, {1, 0, -1, 4}};
        assertArrayEquals(new double[] {16, -49.25, -161.5}, attention(WV, WO), 1e-12);
        double[] wv = WV.clone();
        for (int h = 0; h < 2; h++) {
            double[] rows = java.util.Arrays.copyOfRange(wv, 6 * h, 6 * h + 6);
            Folds.left(rows, m[h], 2);
            System.arraycopy(rows, 0, wv, 6 * h, 6);
        }
        assertArrayEquals(new double[] {16, -49.25, -161.5}, attention(wv, inverted(m, 0, 0, 1, 1)), 1e-9);
        assertArrayEquals(new double[] {-25.71875, -430.8125, -557.5}, attention(wv, inverted(m, 0, 1, 0, 1)), 1e-9, "dealt to query heads in turn");
    }

    /** WO with the inverse of m[of[h]] on the columns of query head h. */
    private static double[] inverted(double[][] m, int... of) {
        double[] wo = WO.clone();
        for (int r = 0; r < 3; r++) {
            for (int h = 0; h < 4; h++) {
                double[] pair = {wo[8 * r + 2 * h], wo[8 * r + 2 * h + 1]};
                Folds.right(pair, Folds.transpose(Folds.inverse(m[of[h]], 2), 2), 2);
                System.arraycopy(pair, 0, wo, 8 * r + 2 * h, 2);
            }
        }
        return wo;
    }

    /** dL/dM of L = Σ G ⊙ M⁻¹ W, by differences. */
    @Test
    void slopeOfAnInverse() {
        double[] expected = {1.25, -3, 3.5, -14}, m = {2, 1, 0, 0.5};
        for (int i = 0; i < 4; i++) {
            double[] up = m.clone(), down = m.clone();
            up[i] += 1e-5;
            down[i] -= 1e-5;
            assertEquals(expected[i], (ofInverse(up) - ofInverse(down)) / 2e-5, 1e-6);
        }
    }

    private static double ofInverse(double[] m) {
        double[] i = Folds.inverse(m, 2), w = {1, 2, 3, -1}, g = {1, 0, 2, 1};
        return dot(g, new double[] {i[0] * w[0] + i[1] * w[2], i[0] * w[1] + i[1] * w[3], i[2] * w[0] + i[3] * w[2], i[2] * w[1] + i[3] * w[3]});
    }

    // ---- channels and the residual stream ----------------------------------------------------------------------------

    private static double[] mlp(double[] gate, double[] up, double[] down) {
        double[] x = {1, -2}, g = times(gate, x), u = times(up, x), h = new double[3];
        for (int i = 0; i < 3; i++) h[i] = g[i] / (1 + Math.exp(-g[i])) * u[i];
        return times(down, h);
    }

    @Test
    void scalesBetweenUpAndDown() {
        double[] gate = {1, 0, 0.5, 1, -1, 1}, up = {2, 1, 0, 3, 1, -1}, down = {1, 2, -1, 0, 1, 1}, s = {0.5, 0.25, 2};
        double[] y = mlp(gate, up, down), scaled = down.clone();
        assertArrayEquals(new double[] {3.710492, 1.214997}, y, 1e-6);
        for (int i = 0; i < 6; i++) scaled[i] /= s[i % 3];
        assertArrayEquals(y, mlp(gate, rows(up, s), scaled), 1e-12);
        assertArrayEquals(new double[] {7.354255, 3.643747}, mlp(rows(gate, s), up, scaled), 1e-6, "on the gate instead");
    }

    private static double[] rows(double[] w, double[] s) {
        return IntStream.range(0, w.length).mapToDouble(i -> w[i] * s[i / 2]).toArray();
    }

    @Test
    void theResidualTurnsOnceGainsAreFolded() {
        double[] x = {1, 2, 3, 4}, gain = {1, 0.5, 2, 1}, w = {1, 0, -1, 2, 0.5, 1, 0, -1}, folded = w.clone();
        for (int i = 0; i < 8; i++) folded[i] *= gain[i % 4];
        assertArrayEquals(new double[] {1.095445, -0.912871}, normed(x, folded), 1e-6);
        double[] h = Hadamard.sylvester(4), turned = x.clone(), centred = new double[4];
        Folds.right(turned, h, 4);
        double[] merged = folded.clone(), unfolded = w.clone();
        Folds.right(merged, h, 4);
        Folds.right(unfolded, h, 4);
        assertArrayEquals(new double[] {1.095445, -0.912871}, normed(turned, merged), 1e-6);
        for (int i = 0; i < 8; i++) unfolded[i] *= gain[i % 4];
        assertArrayEquals(new double[] {2.008316, -1.414950}, normed(turned, unfolded), 1e-6, "gains left where they were");
        for (int i = 0; i < 4; i++) centred[i] = x[i] - 2.5;
        assertArrayEquals(new double[] {0.447214, -2.236068}, normed(centred, folded), 1e-6, "centred, as under a LayerNorm");
    }

    /** W N(x) without ε. */
    private static double[] normed(double[] x, double[] w) {
        double r = 1 / Math.sqrt(dot(x, x) / x.length);
        return times(w, IntStream.range(0, x.length).mapToDouble(i -> x[i] * r).toArray());
    }

    // ---- rotations ---------------------------------------------------------------------------------------------------

    @Test
    void blocksAndChannelsThatLieApart() {
        double[] twelve = IntStream.rangeClosed(1, 12).asDoubleStream().toArray(), before = twelve.clone();
        Folds.turnBlocks(twelve, 4, 1);
        assertArrayEquals(new double[] {5, -1, -2, 0, 13, -1, -2, 0, 21, -1, -2, 0}, twelve, 1e-12);
        Folds.turnBlocks(twelve, 4, 1);
        assertArrayEquals(before, twelve, 1e-12, "its own inverse");
        // H₄ ⊗ I₃: 1, 4, 7, 10 meet, as 2, 5, 8, 11 do
        Folds.turnBlocks(twelve, 4, 3);
        assertArrayEquals(new double[] {11, 13, 15, -3, -3, -3, -6, -6, -6, 0, 0, 0}, twelve, 1e-12);
    }

    /** An outlier in 4 bits with one step: Σ (x − x̂)² as it is, and rounded where it is turned. */
    @Test
    void whyRotationsHelp() {
        double[] x = {8, 0.5, -0.5, 0.4};
        assertEquals(0.66, rounded(x.clone()), 1e-9);
        Folds.turnBlocks(x, 4, 1);
        assertArrayEquals(new double[] {4.2, 3.3, 4.3, 4.2}, x, 1e-12);
        assertEquals(0.0722, rounded(x), 1e-4);
    }

    private static double rounded(double[] x) {
        double most = java.util.Arrays.stream(x).map(Math::abs).max().orElseThrow(), s = most / 7, sum = 0;
        for (double v : x) sum += Math.pow(v - Math.clamp(Math.rint(v / s), -8, 7) * s, 2);
        return sum;
    }
}
