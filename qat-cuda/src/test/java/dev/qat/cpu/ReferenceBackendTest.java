package dev.qat.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Heads;
import dev.qat.ops.Philox;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What the specification itself must satisfy: facts about its ops that need no second implementation. */
class ReferenceBackendTest {
    private final ReferenceBackend b = new ReferenceBackend();

    @AfterEach
    void close() {
        b.close();
    }

    // ---- storage -----------------------------------------------------------------------------------------------------

    @Test
    void bf16IsTheNearestAndTheEvenOfTwo() {
        assertEquals(1f, stored(1 + 0x1p-8f));
        assertEquals(1 + 0x1p-6f, stored(1 + 3 * 0x1p-8f));
        assertEquals(1 + 0x1p-7f, stored(Math.nextUp(1 + 0x1p-8f)));
        assertEquals(-1f, stored(-(1 + 0x1p-8f)));
        assertEquals(Float.POSITIVE_INFINITY, stored(Float.MAX_VALUE));
        assertEquals(Float.NEGATIVE_INFINITY, stored(Float.NEGATIVE_INFINITY));
        assertEquals(0x1p-133f, stored(0x1p-133f));
        assertEquals(-0f, stored(-Float.MIN_VALUE));
        assertTrue(Float.isNaN(stored(Float.NaN)));
        assertTrue(Float.isNaN(stored(Float.intBitsToFloat(0x7F800001))), "a NaN whose upper half alone would be an infinity");
        assertTrue(Float.isNaN(stored(Float.intBitsToFloat(0xFFFFFFFF))), "a NaN that must not be rounded up to zero");
    }

    /** v, written to BF16 and read back. */
    private static float stored(float v) {
        return Float.intBitsToFloat(Cells.bf16(v) << 16);
    }

    @Test
    void productsReadBf16OperandsAndSumThemExactly() {
        Tensor x = b.memory().tensor("x", DType.BF16, 1, 2), w = b.memory().tensor("w", DType.BF16, 1, 2), y = tensor(1, 1);
        b.copy(x, pair(1.00390625f, 3));
        b.copy(w, pair(0.1f, 1));
        b.linear(y, x, w, null, null);
        assertArrayEquals(new float[] {stored(0.1f) + 3}, floats(y));
    }

    @Test
    void closingGivesAllMemoryBack() {
        ReferenceBackend other = new ReferenceBackend(DType.BF16);
        other.memory().tensor("a", 3);
        other.memory().tensor("b", 5);
        other.close();
        assertTrue(other.memory().slabs().isEmpty());
    }

    @Test
    void aTokenOutsideOfTheVocabularyIsRefused() {
        Tensor ids = ints(0, 3);
        assertTrue(assertThrows(Fail.class, () -> b.embed(tensor(2, 1), ids, tensor(3, 1))).getMessage().contains("id 3 at 1"));
        assertThrows(Fail.class, () -> b.crossEntropy(tensor(2), Grad.NONE, Grad.NONE, tensor(1, 3), tensor(2, 1), tensor(3, 1), ids, 1));
    }

    // ---- the decoder -------------------------------------------------------------------------------------------------

    @Test
    void rotationIsAProductOfComplexNumbersAndItsBackwardTurnsBack() {
        int D = 6, T = 4;
        Tensor table = tensor(2, T, D / 2), x = normal("x", 3, 2 * D), y = tensor(3, 2 * D), back = tensor(3, 2 * D), positions = ints(0, 3, 1);
        float[] angles = new float[2 * T * D / 2];
        for (int i = 0; i < T * D / 2; i++) {
            double angle = i / (D / 2) / Math.pow(100, i % (D / 2) * 2.0 / D);
            angles[i] = (float) Math.cos(angle);
            angles[T * D / 2 + i] = (float) Math.sin(angle);
        }
        b.memory().set(table, angles);
        b.rope(y, x, table, positions);
        float[] in = floats(x), out = floats(y);
        assertArrayEquals(java.util.Arrays.copyOf(in, 2 * D), java.util.Arrays.copyOf(out, 2 * D), "position 0 does not turn");
        double angle = 3 / Math.pow(100, 2.0 / D);    // position 3, second pair, first head
        assertEquals(in[2 * D + 1] * Math.cos(angle) - in[2 * D + 4] * Math.sin(angle), out[2 * D + 1], 1e-6);
        assertEquals(in[2 * D + 4] * Math.cos(angle) + in[2 * D + 1] * Math.sin(angle), out[2 * D + 4], 1e-6);
        b.ropeBack(new Grad(back, false), y, table, positions);
        assertArrayEquals(in, floats(back), 1e-6f);
    }

    @Test
    void attentionOverACacheIsTheLastRowOfAttention() {
        Heads heads = new Heads(2, 9, 4, 2, 6);
        int T = 9, C = 24, kv = 12;
        Tensor q = normal("q", 2 * T, C), k = normal("k", 2 * T, kv), v = normal("v", 2 * T, kv), o = tensor(2 * T, C), lse = tensor(2, 4, T);
        b.attention(o, lse, q, k, v, heads);
        Tensor last = tensor(2, C), cached = tensor(2, C);
        b.copy(last.rows(0, 1), q.rows(T - 1, 1));
        b.copy(last.rows(1, 1), q.rows(T + 3, 1));
        b.attentionCache(cached, last, k.view(0, 2, T, kv), v.view(0, 2, T, kv), ints(T, 4), heads);
        assertArrayEquals(floats(o.rows(T - 1, 1)), floats(cached.rows(0, 1)));
        assertArrayEquals(floats(o.rows(T + 3, 1)), floats(cached.rows(1, 1)));
    }

    @Test
    void aTokenAttendsToNothingAfterIt() {
        Heads heads = new Heads(1, 5, 1, 1, 2);
        Tensor q = normal("q", 5, 2), k = normal("k", 5, 2), v = normal("v", 5, 2), o = tensor(5, 2), changed = tensor(5, 2), lse = tensor(1, 1, 5);
        b.attention(o, lse, q, k, v, heads);
        b.fill(k.rows(3, 2), 100);
        b.fill(v.rows(3, 2), 100);
        b.attention(changed, lse, q, k, v, heads);
        assertArrayEquals(floats(o.rows(0, 3)), floats(changed.rows(0, 3)));
        assertArrayEquals(floats(v.rows(0, 1)), floats(o.rows(0, 1)), 1e-7f, "the first token has only itself");
    }

    // ---- losses ------------------------------------------------------------------------------------------------------

    @Test
    void aModelAgreesWithItself() {
        Tensor x = normal("x", 3, 4), w = normal("w", 7, 4), stats = tensor(3, 3), loss = tensor(3), targets = ints(2, -1, 6);
        b.compare(stats, tensor(2, 7), tensor(2, 7), x, w, x, w, targets);
        b.crossEntropy(loss, Grad.NONE, Grad.NONE, tensor(2, 7), x, w, targets, 1);
        float[] s = floats(stats), l = floats(loss);
        for (int n = 0; n < 3; n++) assertArrayEquals(new float[] {l[n], 0, 1}, new float[] {s[3 * n], s[3 * n + 1], s[3 * n + 2]}, 1e-7f);
        assertEquals(0, l[1]);
    }

    @Test
    void jensenShannonIsSymmetricAndAtMostLogTwo() {
        Tensor x = normal("x", 3, 4), y = normal("y", 3, 4), w = normal("w", 7, 4), one = tensor(3), other = tensor(3), targets = ints(0, 0, 0);
        Divergence js = new Divergence(true, 0, 0, 1);
        b.distill(one, Grad.NONE, Grad.NONE, tensor(2, 7), tensor(2, 7), x, w, y, w, targets, js, 1);
        b.distill(other, Grad.NONE, Grad.NONE, tensor(2, 7), tensor(2, 7), y, w, x, w, targets, js, 1);
        assertArrayEquals(floats(one), floats(other), 1e-7f);
        b.scale(x, x, 1000);
        b.distill(one, Grad.NONE, Grad.NONE, tensor(2, 7), tensor(2, 7), x, w, y, w, targets, js, 1);
        for (float l : floats(one)) assertTrue(l > 0 && l < Math.log(2) + 1e-6, "JS = " + l);
    }

    // ---- optimizer ---------------------------------------------------------------------------------------------------

    @Test
    void adamwFollowsItsFormulaOverSeveralSteps() {
        double lr = 0.01, b1 = 0.9, b2 = 0.999, eps = 1e-8, decay = 0.1, maxNorm = 0.5, p = 2, m = 0, v = 0;
        Tensor value = number(2), mean = tensor(1), square = tensor(1), hyper = tensor(8), squares = tensor(1);
        for (int t = 1; t <= 5; t++) {
            double g = 3.0 / t, clipped = g * Math.min(1, maxNorm / (g + 1e-6));
            m = b1 * m + (1 - b1) * clipped;
            v = b2 * v + (1 - b2) * clipped * clipped;
            p -= lr * (m / (1 - Math.pow(b1, t)) / (Math.sqrt(v / (1 - Math.pow(b2, t))) + eps) + decay * p);
            b.memory().set(hyper, (float) lr, (float) b1, (float) b2, (float) eps, (float) decay, (float) (1 / (1 - Math.pow(b1, t))),
                    (float) (1 / (1 - Math.pow(b2, t))), (float) maxNorm);
            Tensor slope = number(g);
            b.sumSquares(squares, slope);
            b.adamw(value, slope, mean, square, hyper, squares);
        }
        assertEquals(p, floats(value)[0], 1e-6);
    }

    // ------------------------------------------------------------------------------------------------------------------

    private Tensor tensor(long... dims) {
        return b.memory().tensor("t", dims);
    }

    private Tensor number(double value) {
        Tensor t = tensor(1);
        b.fill(t, (float) value);
        return t;
    }

    private Tensor pair(float... values) {
        Tensor t = tensor(1, values.length);
        b.memory().set(t, values);
        return t;
    }

    private Tensor ints(int... values) {
        Tensor t = b.memory().tensor("ints", DType.I32, values.length);
        b.memory().set(t, values);
        return t;
    }

    private Tensor normal(String name, long... dims) {
        Tensor t = b.memory().tensor(name, dims);
        float[] v = new float[(int) t.size()];
        for (int i = 0; i < v.length; i++) v[i] = (float) Philox.normal(name.hashCode(), i, 0, 0);
        b.memory().set(t, v);
        return t;
    }

    private float[] floats(Tensor t) {
        return b.memory().floats(t);
    }
}
