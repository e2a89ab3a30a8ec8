package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.function.Executable;

/** Numbers worked out outside of this project, in double precision, for each quantizer and divergence, on every fp32 backend. */
class WorkedNumbersTest {
    private static final float[] W = {0.8f, -0.35f, 0.05f, -0.6f}, G = {0.5f, -1, 2, 0.25f};

    private interface Work {
        void on(Backend b);
    }

    @TestFactory
    Stream<DynamicNode> workedNumbersComeOutOfEveryBackend() {
        return Candidate.all().stream().filter(c -> c.product() == c.plain()).map(c -> dynamicContainer(c.name(), Stream.of(
                test(c, "EfficientQAT's start", WorkedNumbersTest::groupRange),
                test(c, "EfficientQAT's trained state", WorkedNumbersTest::fakeQuant),
                test(c, "E2E-QP's step", WorkedNumbersTest::endToEnd),
                test(c, "a group of one sign", WorkedNumbersTest::overflowTrap),
                test(c, "2-bit words", b -> words(b, 2, 16, 0xB0E5C693, 3, 0, 1, 2, 2, 1, 0, 3, 1, 1, 2, 3, 0, 0, 3, 2)),
                test(c, "3-bit words", b -> words(b, 3, 10, 0x0FD63447, 7, 0, 1, 2, 3, 4, 5, 6, 7, 1)),
                test(c, "LLM-QAT's symmetric weights", WorkedNumbersTest::rowQuantWeights),
                test(c, "LLM-QAT's symmetric token", WorkedNumbersTest::rowQuantToken),
                test(c, "LLM-QAT's asymmetric token", WorkedNumbersTest::rowQuantAsymmetric),
                test(c, "LSQ in 2 bits", b -> lsq(b, 2, 0.9f, new float[] {0.9f, 0, 0, -0.9f}, -0.263889)),
                test(c, "LSQ in 4 bits", b -> lsq(b, 4, 0.340168026f, new float[] {0.680336f, -0.340168f, 0, -0.680336f}, -0.105415534)),
                test(c, "LLM-QAT's distillation", b -> divergence(b, Divergence.KL, 0.148891654,
                        -0.133500, 0.079383, 0.054118, -0.056579, 0.210377, -0.153798)),
                test(c, "FPTQuant's Jensen-Shannon", WorkedNumbersTest::jensenShannon),
                test(c, "a learned range about a zero point", WorkedNumbersTest::learnedRange),
                test(c, "BitDistiller's CAKLD", b -> divergence(b, new Divergence(false, 0.709955810f, 0, 1), 0.164709158,
                        -0.155528, 0.087393, 0.068135, -0.062992, 0.234224, -0.171231)))));
    }

    private static DynamicNode test(Candidate c, String name, Work work) {
        Executable run = () -> {
            try (Backend b = c.make().get()) {
                work.on(b);
            }
        };
        return dynamicTest(name, run);
    }

    // ---- EfficientQAT ------------------------------------------------------------------------------------------------

    private static void groupRange(Backend b) {
        Tensor w = tensor(b, -0.31f, 0.12f, 0.45f, 0.07f), step = tensor(b, 0), zero = tensor(b, 0), y = tensor(b, 0, 0, 0, 0);
        b.groupRange(step, zero, w, new Grid(2, 4));
        is(b, step, 1e-7, 0.253333333);
        is(b, zero, 0, 1);
        b.fakeQuant(y, w, step, zero, new Grid(2, 4));
        is(b, y, 1e-6, -0.253333, 0, 0.506667, 0);
        codes(b, 2, w, step, zero, 0, 1, 3, 1);
    }

    private static void fakeQuant(Backend b) {
        Tensor w = tensor(b, -0.55f, 0.12f, 0.53f, 0.07f), step = tensor(b, 0.2f), zero = tensor(b, 1.3f), y = tensor(b, 0, 0, 0, 0);
        Grid grid = new Grid(2, 4);
        b.fakeQuant(y, w, step, zero, grid);
        is(b, y, 1e-7, -0.2, 0.2, 0.4, 0);
        codes(b, 2, w, step, zero, 0, 2, 3, 1);
        Tensor dw = tensor(b, 9, 9, 9, 9), dstep = tensor(b, 9), dzero = tensor(b, 9);
        b.fakeQuantBack(write(dw), write(dstep), write(dzero), tensor(b, G), w, step, zero, grid);
        is(b, dw, 0, 0, -1, 0, 0.25);
        is(b, dstep, 2e-6, 3.0125);
        is(b, dzero, 1e-7, -0.5);
        float[] ofStep = {-1, 0.4f, 2, -0.35f}, ofZero = {-0.2f, 0, -0.2f, 0};
        for (int i = 0; i < 4; i++) {
            float[] one = new float[4];
            one[i] = 1;
            b.fakeQuantBack(Grad.NONE, write(dstep), write(dzero), tensor(b, one), w, step, zero, grid);
            is(b, dstep, 1e-6, ofStep[i]);
            is(b, dzero, 1e-7, ofZero[i]);
        }
    }

    /** y = x · ŵ, L = ½ (y − 1)² */
    private static void endToEnd(Backend b) {
        PackedWeight packed = packed(b, 2, 4, tensor(b, -0.55f, 0.12f, 0.53f, 0.07f), tensor(b, 0.2f), tensor(b, 1));
        Tensor step = tensor(b, 0.2f), w = matrix(b, 1, 4, 0, 0, 0, 0), x = matrix(b, 1, 4, 1, -2, 0.5f, 3), y = matrix(b, 1, 1, 0);
        b.dequantize(w, packed, step);
        b.linear(y, x, w, null, null);
        is(b, y, 1e-6, -0.4);
        Tensor dy = matrix(b, 1, 1, b.memory().floats(y)[0] - 1), dw = matrix(b, 1, 4, 0, 0, 0, 0), dstep = tensor(b, 0);
        b.linearBack(Grad.NONE, write(dw), Grad.NONE, dy, x, w);
        b.dequantizeBack(write(dstep), dw, packed);
        is(b, dstep, 2e-6, 2.8);
    }

    /** All weights positive: the zero point starts at −1, is used as 0, and is packed as it is used. */
    private static void overflowTrap(Backend b) {
        Tensor w = tensor(b, 0.1f, 0.2f, 0.3f, 0.4f), step = tensor(b, 0), zero = tensor(b, 0), y = tensor(b, 0, 0, 0, 0);
        b.groupRange(step, zero, w, new Grid(2, 4));
        is(b, step, 1e-7, 0.1);
        is(b, zero, 0, -1);
        b.fakeQuant(y, w, step, zero, new Grid(2, 4));
        is(b, y, 1e-7, 0.1, 0.2, 0.3, 0.3);
        PackedWeight packed = codes(b, 2, w, step, zero, 1, 2, 3, 3);
        is(b, packed.zero(), 0, 0);
        Tensor back = tensor(b, 0, 0, 0, 0);
        b.dequantize(back, packed, packed.step());
        assertArrayEquals(b.memory().floats(y), b.memory().floats(back), "dequantize(pack(w)) and fakeQuant(w)");
    }

    private static void words(Backend b, int bits, int n, int expected, int... codes) {
        float[] w = new float[n];
        for (int i = 0; i < n; i++) w[i] = codes[i] - 1;
        PackedWeight packed = packed(b, bits, n, tensor(b, w), tensor(b, 1), tensor(b, 1));
        assertArrayEquals(new int[] {expected}, b.memory().ints(packed.words()));
    }

    private static PackedWeight codes(Backend b, int bits, Tensor w, Tensor step, Tensor zero, int... expected) {
        PackedWeight packed = packed(b, bits, expected.length, w, step, zero);
        int word = b.memory().ints(packed.words())[0];
        for (int i = 0; i < expected.length; i++) assertEquals(expected[i], word >>> i * bits & (1 << bits) - 1, "code " + i);
        return packed;
    }

    private static PackedWeight packed(Backend b, int bits, int n, Tensor w, Tensor step, Tensor zero) {
        PackedWeight packed = new PackedWeight("w", bits, n, n, b.memory().tensor("words", DType.I32, 1, 1), matrix(b, 1, 1, 9), matrix(b, 1, 1, 9), null);
        b.pack(packed, w.view(0, 1, n), step, zero);
        return packed;
    }

    // ---- LLM-QAT -----------------------------------------------------------------------------------------------------

    private static void rowQuantWeights(Backend b) {
        Tensor y = tensor(b, 9, 9, 9, 9);
        b.rowQuant(y, tensor(b, 0.31f, -0.92f, 0.05f, 0.47f), new RowGrid(4, true, true));
        is(b, y, 1e-6, 0.2628573940, -0.9200008791, 0, 0.5257147880);
    }

    private static void rowQuantToken(Backend b) {
        Tensor x = tensor(b, 0.5f, -1.25f, 2.5f, -3), y = tensor(b, 9, 9, 9, 9), dx = tensor(b, 9, 9, 9, 9);
        b.rowQuant(y, x, new RowGrid(8, true, true));
        is(b, y, 1e-6, 0.496063, -1.251969, 2.503938, -3.000001);
        b.rowQuantBack(write(dx), tensor(b, G), x, new RowGrid(8, true, true));
        is(b, dx, 0, 0.5, -1, 0, 0);
        b.rowQuantBack(write(dx), tensor(b, G), x, new RowGrid(8, true, false));
        is(b, dx, 0, 0.5, -1, 2, 0.25);
    }

    private static void rowQuantAsymmetric(Backend b) {
        Tensor y = tensor(b, 9, 9, 9, 9);
        b.rowQuant(y, tensor(b, 0.5f, -1.25f, 2.5f, -3), new RowGrid(4, false, true));
        is(b, y, 1e-6, 0.666667, -1.166667, 2.5, -3);
    }

    // ---- LSQ ---------------------------------------------------------------------------------------------------------

    private static void lsq(Backend b, int bits, float step, float[] expected, double slope) {
        Tensor y = tensor(b, 9, 9, 9, 9), dw = tensor(b, 9, 9, 9, 9), dstep = tensor(b, 9);
        b.lsq(y, tensor(b, W), tensor(b, step), new Grid(bits, 4));
        is(b, y, 1e-6, expected[0], expected[1], expected[2], expected[3]);
        b.lsqBack(write(dw), write(dstep), tensor(b, G), tensor(b, W), tensor(b, step), new Grid(bits, 4));
        is(b, dw, 0, 0.5, -1, 2, 0.25);
        is(b, dstep, 1e-6, slope);
    }

    // ---- divergences -------------------------------------------------------------------------------------------------

    /** Hidden states are the logits themselves and the head is the identity; the sum over both tokens is the loss. */
    private static void divergence(Backend b, Divergence divergence, double loss, double... slopes) {
        Tensor teacher = matrix(b, 2, 3, 2, 0, -1, 0.5f, 0.5f, 1.5f), student = matrix(b, 2, 3, 1.5f, 0.2f, -0.5f, 0, 1, 1);
        Tensor head = matrix(b, 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1), targets = b.memory().tensor("targets", DType.I32, 2);
        b.memory().set(targets, 0, 0);
        Tensor rows = tensor(b, 9, 9), dx = matrix(b, 2, 3, 9, 9, 9, 9, 9, 9);
        b.distill(rows, write(dx), Grad.NONE, matrix(b, 1, 3, 0, 0, 0), matrix(b, 1, 3, 0, 0, 0), student, head, teacher, head, targets, divergence, 1);
        float[] l = b.memory().floats(rows);
        assertEquals(loss, l[0] + l[1], 3e-7);
        is(b, dx, 1e-6, slopes);
    }

    /** p = (½, ¼, ¼), q = (¼, ¼, ½) */
    private static void jensenShannon(Backend b) {
        Tensor p = matrix(b, 1, 3, (float) Math.log(0.5), (float) Math.log(0.25), (float) Math.log(0.25));
        Tensor q = matrix(b, 1, 3, (float) Math.log(0.25), (float) Math.log(0.25), (float) Math.log(0.5));
        Tensor head = matrix(b, 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1), targets = b.memory().tensor("targets", DType.I32, 1), loss = tensor(b, 9), dx = matrix(b, 1, 3, 9, 9, 9);
        b.memory().set(targets, 0);
        b.distill(loss, write(dx), Grad.NONE, matrix(b, 1, 3, 0, 0, 0), matrix(b, 1, 3, 0, 0, 0), q, head, p, head, targets, new Divergence(true, 0, 0, 1), 1);
        is(b, loss, 3e-7, 0.0424748);
        is(b, dx, 1e-6, -0.0559925, -0.0053093, 0.0613018);
        b.distill(loss, Grad.NONE, Grad.NONE, matrix(b, 1, 3, 0, 0, 0), matrix(b, 1, 3, 0, 0, 0), q, head, p, head, targets, Divergence.KL, 1);
        is(b, loss, 3e-7, 0.1732868);
    }

    /** s = ½, z = 1, 4 bits: the second of three values lies below the range. */
    private static void learnedRange(Backend b) {
        Tensor w = tensor(b, 0.3f, -1.2f, 2.7f), step = tensor(b, 0.5f), zero = tensor(b, 1), y = tensor(b, 9, 9, 9), dw = tensor(b, 9, 9, 9), dstep = tensor(b, 9), dzero = tensor(b, 9);
        Grid grid = new Grid(4, 3);
        b.fakeQuant(y, w, step, zero, grid);
        is(b, y, 0, 0.5, -0.5, 2.5);
        float[] ofStep = {0.4f, -1, -0.4f}, ofZero = {0, -0.5f, 0}, ofWeight = {1, 0, 1};
        for (int i = 0; i < 3; i++) {
            float[] one = new float[3];
            one[i] = 1;
            b.fakeQuantBack(write(dw), write(dstep), write(dzero), tensor(b, one), w, step, zero, grid);
            is(b, dstep, 1e-6, ofStep[i]);
            is(b, dzero, 0, ofZero[i]);
            assertEquals(ofWeight[i], b.memory().floats(dw)[i]);
        }
    }

    // ------------------------------------------------------------------------------------------------------------------

    private static Grad write(Tensor to) {
        return new Grad(to, false);
    }

    private static Tensor tensor(Backend b, float... values) {
        Memory memory = b.memory();
        Tensor t = memory.tensor("t", values.length);
        memory.set(t, values);
        return t;
    }

    private static Tensor matrix(Backend b, int rows, int cols, float... values) {
        return tensor(b, values).view(0, rows, cols);
    }

    private static void is(Backend b, Tensor t, double tolerance, double... expected) {
        b.sync();
        float[] got = b.memory().floats(t);
        double[] wide = new double[got.length];
        for (int i = 0; i < got.length; i++) wide[i] = got[i];
        assertArrayEquals(expected, wide, tolerance);
    }
}
