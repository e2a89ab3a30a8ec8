package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.tensor.Tensor;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.TestFactory;

/** Ternary numbers worked out outside of this project in double precision: one token X, weights W, dL/dy = 2, one group of four. */
class TernaryNumbersTest {
    private static final float[] W = {0.9f, -0.1f, 0.3f, -0.7f}, X = {1, -2, 0.5f, 3};
    private static final float[] V = {0.8f, -0.35f, 0.05f, -0.6f}, G = {0.5f, -1, 2, 0.25f};

    @TestFactory
    Stream<DynamicNode> workedNumbersComeOutOfEveryBackend() {
        return Candidate.all().stream().filter(c -> c.product() == c.plain()).map(c -> dynamicContainer(c.name(), Stream.of(
                test(c, "Tequila", b -> tequila(b, false, -1e-4, -0.7501, -3.998, -0.2)),
                test(c, "Tequila with signs", b -> tequila(b, true, -1e-3, -0.751, -2, -2)),
                test(c, "Tequila with an epsilon for each weight", TernaryNumbersTest::eachEpsilon),
                test(c, "TWN", b -> ranged(b, Threshold.TWN, 0.8, 0.375, 0.8, 0, 0, -0.8)),
                test(c, "absmean", b -> ranged(b, Threshold.ABSMEAN, 0.5, 0.25, 0.5, 0, 0.5, -0.5)),
                test(c, "median", b -> ranged(b, Threshold.MEDIAN, 0.3, 0.15, 0.3, 0, 0.3, -0.3)),
                test(c, "Sherry", b -> ranged(b, Threshold.QUADS, 0.633333, 0, 0.633333, 0, 0.633333, -0.633333)),
                test(c, "Sherry with a residual", TernaryNumbersTest::residual),
                test(c, "DLT", TernaryNumbersTest::dlt),
                test(c, "SEQ as the official code has it", b -> stretched(b, true, 0.312500)),
                test(c, "SEQ with the level it stands for", b -> stretched(b, false, 0.229167)),
                test(c, "SEQ at two bits", TernaryNumbersTest::fours),
                test(c, "BitNet's activations", TernaryNumbersTest::activations),
                test(c, "ties", TernaryNumbersTest::ties),
                test(c, "a group of zeros", TernaryNumbersTest::zeros))));
    }

    private static DynamicNode test(Candidate c, String name, Consumer<Backend> work) {
        return dynamicTest(name, () -> {
            try (Backend b = c.make().get()) {
                work.accept(b);
            }
        });
    }

    /**
     * y = x · ŵᵀ + bias and the gradients of everything, the bias made first, as a linear does. The numbers with signs are derived: the released
     * first variant multiplies ε · sign(w) with sign(x), here sign(−2), for y = −0.749 and −6, which no bias can be.
     */
    private static void tequila(Backend b, boolean sign, double merged, double out, double slope, double epsilonSlope) {
        Tensor w = tensor(b, W).view(0, 1, 4), scale = tensor(b, 0), edge = tensor(b, 0), bias = tensor(b, 9), dead = tensor(b, 9), epsilon = tensor(b, 1e-3f);
        Trits t = Trits.given(4);
        b.ternaryRange(scale, edge, w, Threshold.ABSMEAN, 4);
        b.reactivate(bias, dead, null, w, scale, edge, epsilon, t, sign);
        is(b, bias, 1e-10, merged);
        is(b, dead, 0, 1);
        Tensor a = tensor(b, 9, 9, 9, 9).view(0, 1, 4), x = tensor(b, X).view(0, 1, 4), y = tensor(b, 9).view(0, 1, 1);
        b.ternary(a, w, scale, edge, null, null, t);
        is(b, a, 0, 0.5, 0, 0.5, -0.5);
        b.linear(y, x, a, bias, null);
        is(b, y, 1e-6, out);
        Tensor dy = tensor(b, 2).view(0, 1, 1), dw = tensor(b, 9, 9, 9, 9).view(0, 1, 4), dx = tensor(b, 9, 9, 9, 9).view(0, 1, 4), dbias = tensor(b, 9), de = tensor(b, 9);
        b.linearBack(write(dx), write(dw), write(dbias), dy, x, a);
        is(b, dx, 1e-6, 1, 0, 1, -1);
        b.ternaryBack(write(dw), Grad.NONE, Grad.NONE, dw, w, scale, edge, null, t);
        b.reactivateBack(new Grad(dw, true), write(de), dbias, w, scale, edge, epsilon, t, sign);
        is(b, dw, 1e-6, 2, slope, 1, 6);
        is(b, de, 1e-7, epsilonSlope);
    }

    /** The third variant's λ, without removing the path through the product. */
    private static void eachEpsilon(Backend b) {
        Tensor w = tensor(b, W).view(0, 1, 4), lambda = tensor(b, 0.002f, -0.004f, 0.001f, 0.003f).view(0, 1, 4), bias = tensor(b, 9), dw = tensor(b, 9, 9, 9, 9), dl = tensor(b, 9, 9, 9, 9);
        b.reactivate(bias, tensor(b, 9), null, w, tensor(b, 0.5f), tensor(b, 0.25f), lambda, Trits.given(4), false);
        is(b, bias, 1e-9, -0.7496 + 0.75);
        b.reactivateBack(write(dw), write(dl), tensor(b, 2), w, tensor(b, 0.5f), tensor(b, 0.25f), lambda, Trits.given(4), false);
        is(b, dw, 1e-8, 0, -0.008, 0, 0);
        is(b, dl, 1e-7, 0, -0.2, 0, 0);
    }

    private static void zeros(Backend b) {
        for (Threshold rule : Threshold.values()) {
            Tensor scale = tensor(b, 9), edge = tensor(b, 9), y = tensor(b, 9, 9, 9, 9), w = tensor(b, 0, 0, 0, 0);
            b.ternaryRange(scale, edge, w, rule, 4);
            b.ternary(y, w, scale, edge, null, null, rule == Threshold.QUADS ? Trits.quads(4) : Trits.given(4));
            is(b, scale, 0, 0);
            is(b, y, 0, 0, 0, 0, 0);
        }
    }

    private static void ranged(Backend b, Threshold rule, double s, double e, double... expected) {
        Tensor scale = tensor(b, 9), edge = tensor(b, 9), y = tensor(b, 9, 9, 9, 9);
        b.ternaryRange(scale, edge, tensor(b, W), rule, 4);
        is(b, scale, 1e-6, s);
        is(b, edge, 1e-6, e);
        b.ternary(y, tensor(b, W), scale, edge, null, null, rule == Threshold.QUADS ? Trits.quads(4) : Trits.given(4));
        is(b, y, 1e-6, expected);
    }

    private static void residual(Backend b) {
        Tensor w = tensor(b, W).view(0, 1, 4), scale = tensor(b, 0.633333333f), edge = tensor(b, 0), r = tensor(b, 0.25f), a = tensor(b, 9, 9, 9, 9).view(0, 1, 4);
        Tensor x = tensor(b, X).view(0, 1, 4), y = tensor(b, 9).view(0, 1, 1), dw = tensor(b, 9, 9, 9, 9).view(0, 1, 4);
        b.ternary(a, w, scale, edge, null, r, Trits.quads(4));
        b.linear(y, x, a, null, null);
        is(b, y, 1e-6, -1.1625);
        b.linearBack(Grad.NONE, write(dw), Grad.NONE, tensor(b, 2).view(0, 1, 1), x, a);
        b.ternaryBack(write(dw), Grad.NONE, Grad.NONE, dw, w, scale, edge, r, Trits.quads(4));
        is(b, dw, 1e-6, 2.5, -5, 1.25, 7.5);
    }

    private static void dlt(Backend b) {
        Tensor w = tensor(b, V), scale = tensor(b, 0.5f), shift = tensor(b, 0.02f), y = tensor(b, 9, 9, 9, 9), dw = tensor(b, 9, 9, 9, 9), ds = tensor(b, 9), dg = tensor(b, 9);
        b.ternary(y, w, scale, null, shift, null, Trits.lsq(4));
        is(b, y, 1e-6, 0.52, -0.48, 0.02, -0.48);
        b.ternaryBack(write(dw), write(ds), write(dg), tensor(b, G), w, scale, null, null, Trits.lsq(4));
        is(b, dw, 0, 0, -1, 2, 0);
        is(b, ds, 1e-6, 0.35 / 2);
        is(b, dg, 1e-6, 1.75);
    }

    private static void stretched(Backend b, boolean official, double slope) {
        Tensor w = tensor(b, V), scale = tensor(b, 0.8f), y = tensor(b, 9, 9, 9, 9), dw = tensor(b, 9, 9, 9, 9), ds = tensor(b, 9);
        b.ternary(y, w, scale, null, null, null, Trits.stretched(4, official));
        is(b, y, 1e-6, 0.533333, -0.533333, 0, -0.533333);
        b.ternaryBack(write(dw), write(ds), Grad.NONE, tensor(b, G), w, scale, null, null, Trits.stretched(4, official));
        is(b, dw, 0, 0, -1, 2, 0.25);
        is(b, ds, 1e-6, slope);
    }

    private static void fours(Backend b) {
        Tensor w = tensor(b, V), scale = tensor(b, 0.8f), y = tensor(b, 9, 9, 9, 9), dw = tensor(b, 9, 9, 9, 9), ds = tensor(b, 9);
        b.ternary(y, w, scale, null, null, null, Trits.stretchedFours(4));
        is(b, y, 1e-6, 0.6, -0.2, 0.2, -0.6);
        b.ternaryBack(write(dw), write(ds), Grad.NONE, tensor(b, G), w, scale, null, null, Trits.stretchedFours(4));
        is(b, dw, 0, 0, -1, 2, 0.25);
        is(b, ds, 1e-6, 0.28125);
        b.ternary(y, tensor(b, -0.5f, 0, 0.5f, -0.25f), tensor(b, 1), null, null, null, Trits.stretchedFours(4)); // ties, half to even
        is(b, y, 0, -0.75, 0.25, 0.25, -0.25);
    }

    /** 8 bits a token. A step here has 1e-6 on top, as LLM-QAT's code does, where BitNet's bounds it below. */
    private static void activations(Backend b) {
        Tensor y = tensor(b, 9, 9, 9, 9);
        b.rowQuant(y, tensor(b, X).view(0, 1, 4), new RowGrid(8, true, false));
        is(b, y, 2e-6, 0.992126, -2.007874, 0.496063, 3);
    }

    /** The edge itself is alive, as in the official code; BitNet's rounding would give 0, 1, 0, −1. */
    private static void ties(Backend b) {
        Tensor y = tensor(b, 9, 9, 9, 9);
        b.ternary(y, tensor(b, 0.25f, 0.5f, -0.25f, -0.75f), tensor(b, 0.5f), tensor(b, 0.25f), null, null, Trits.given(4));
        is(b, y, 0, 0.5, 0.5, -0.5, -0.5);
    }

    private static Grad write(Tensor to) {
        return new Grad(to, false);
    }

    private static Tensor tensor(Backend b, float... values) {
        Tensor t = b.memory().tensor("t", values.length);
        b.memory().set(t, values);
        return t;
    }

    private static void is(Backend b, Tensor t, double tolerance, double... expected) {
        b.sync();
        float[] got = b.memory().floats(t);
        double[] wide = new double[got.length];
        for (int i = 0; i < got.length; i++) wide[i] = got[i];
        assertArrayEquals(expected, wide, tolerance);
    }
}
