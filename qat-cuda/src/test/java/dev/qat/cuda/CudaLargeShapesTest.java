package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.ops.Backend;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.Heads;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Sampling;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Shapes too long for one sweep of a block: sums in parts, rows in strides, groups in slices, chunks of logits. Against the reference. */
class CudaLargeShapesTest {
    private static final double FP32 = 2e-5, BF16 = 3e-2, EXACT = 0;
    private static final long[] SEEDS = {4, 5, 6};

    /** Runs an op on the reference and, in several orders of threads, on CUDA: close to the reference, and always the same bits. */
    private static void agree(Precision precision, double rate, Function<Stage, List<Tensor>> op) {
        float[][] expected;
        try (Backend reference = new ReferenceBackend(precision.operand)) {
            expected = results(reference, op);
        }
        try (Backend cuda = new CudaBackend(StandIn.open(), precision)) {
            float[][] first = null;
            for (long seed : SEEDS) {
                if (StandIn.standing()) StandIn.seed(seed);
                float[][] got = results(cuda, op);
                for (int i = 0; i < got.length; i++) {
                    double error = Floats.error(got[i], doubles(expected[i]));
                    assertTrue(error <= rate, "output " + i + " is off by " + error + " of its largest value");
                    if (first != null) assertArrayEquals(first[i], got[i], "output " + i + " under seed " + seed);
                }
                first = got;
            }
            if (StandIn.standing()) StandIn.checkGuards();
        }
    }

    private static float[][] results(Backend on, Function<Stage, List<Tensor>> op) {
        return op.apply(new Stage(on)).stream().map(on.memory()::floats).toArray(float[][]::new);
    }

    private static double[] doubles(float[] f) {
        double[] d = new double[f.length];
        for (int i = 0; i < d.length; i++) d[i] = f[i];
        return d;
    }

    private static Grad write(Tensor t) {
        return new Grad(t, false);
    }

    // ---- sums in parts -------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(ints = {8192, 8193, 70_001})
    void sumsOfManyParts(int n) {
        agree(Precision.FP32, FP32, s -> {
            Tensor x = s.positive("x", 0, n), t = s.normal("t", n), sum = s.empty("sum", 1), squares = s.normal("squares", 1),
                    loss = s.empty("loss", 1);
            Tensor dx = s.empty("dx", n);
            s.on().sum(sum, x, 0.5f);
            s.on().sumSquares(squares, x);
            s.on().mse(loss, write(dx), x, t);
            return List.of(sum, squares, loss, dx);
        });
    }

    @ParameterizedTest
    @CsvSource({"700, 40", "64, 33", "1000, 1"})
    void columnsOfManyRows(int N, int C) {
        for (Precision precision : List.of(Precision.FP32, Precision.BF16)) agree(precision, FP32, s -> {
            Tensor dy = s.operand("dy", N, C), x = s.operand("x", N, 3), w = s.operand("w", C, 3), dbias = s.normal("dbias", C);
            Tensor y32 = s.normal("y", N, C), x32 = s.normal("x32", N, C), gain = s.normal("gain", C), rstd = s.positive("rstd", 0.5f, N),
                    dgain = s.empty("dgain", C);
            s.on().linearBack(Grad.NONE, Grad.NONE, new Grad(dbias, true), dy, x, w);
            s.on().rmsnormBack(Grad.NONE, write(dgain), y32, x32, gain, rstd);
            return List.of(dbias, dgain);
        });
    }

    /** What a product rounds its operands to, and that TF32 is asked for. */
    @Test
    void productsAreAsPreciseAsTheySay() {
        double tf32 = error(Precision.TF32);
        assertTrue(error(Precision.FP32) < 1e-6);
        assertTrue(error(Precision.BF16) < 1e-6, "against the reference on the same BF16 operands");
        assertTrue(tf32 > 1e-5 && tf32 < 2e-3, "TF32 is off by " + tf32);
    }

    private static double error(Precision precision) {
        Function<Stage, List<Tensor>> op = s -> {
            Tensor y = s.empty("y", 20, 30);
            s.on().linear(y, s.operand("x", 20, 40), s.operand("w", 30, 40), s.normal("bias", 30), s.normal("plus", 20, 30));
            return List.of(y);
        };
        try (Backend reference = new ReferenceBackend(precision.operand); Backend cuda = new CudaBackend(StandIn.open(), precision)) {
            return Floats.error(results(cuda, op)[0], doubles(results(reference, op)[0]));
        }
    }

    // ---- rows in strides -----------------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(ints = {4096, 5003})
    void rowsLongerThanABlock(int C) {
        agree(Precision.FP32, FP32, s -> {
            Tensor x = s.normal("x", 3, C), gain = s.normal("gain", C), y = s.empty("y", 3, C), rstd = s.empty("rstd", 3), dy = s.normal("dy", 3, C);
            Tensor dx = s.empty("dx", 3, C), rows = s.empty("rows", 4, C), ids = s.ints("ids", 0, 3, 4), dtable = s.normal("dtable", 3, C);
            s.on().rmsnorm(y, rstd, x, gain, 1e-5f);
            s.on().rmsnormBack(write(dx), Grad.NONE, dy, x, gain, rstd);
            s.on().embed(rows, ids, x);
            s.on().embedBack(new Grad(dtable, true), rows, ids);
            return List.of(y, rstd, dx, rows, dtable);
        });
        agree(Precision.FP32, EXACT, s -> {
            Tensor x = s.normal("x", 3, C), symmetric = s.empty("symmetric", 3, C), asymmetric = s.empty("asymmetric", 3, C);
            s.on().rowQuant(symmetric, x, new RowGrid(4, true, false));
            s.on().rowQuant(asymmetric, x, new RowGrid(8, false, false));
            return List.of(symmetric, asymmetric);
        });
    }

    // ---- groups --------------------------------------------------------------------------------------------------------

    /** One step for a whole tensor, a few long groups, and many; with and without 16-byte rows. */
    @ParameterizedTest
    @CsvSource({"1, 20000", "3, 9999", "2, 16384", "40, 8200"})
    void longGroupsAreCutIntoSlices(int groups, int G) {
        agree(Precision.FP32, FP32, s -> {
            Tensor w = s.normal("w", groups, G), step = s.positive("step", 0.1f, groups), dy = s.normal("dy", groups, G), y = s.empty("y", groups, G);
            Tensor dw = s.empty("dw", groups, G), dstep = s.normal("dstep", groups);
            s.on().lsq(y, w, step, new Grid(4, G));
            s.on().lsqBack(write(dw), new Grad(dstep, true), dy, w, step, new Grid(4, G));
            return List.of(y, dw, dstep);
        });
    }

    @ParameterizedTest
    @CsvSource({"2, 64", "3, 52", "4, 1300", "8, 13"})
    void codesOfWideRows(int bits, int G) {
        for (Precision precision : List.of(Precision.FP32, Precision.BF16)) agree(precision, FP32, s -> {
            int O = 3, I = 2600 / G * G;
            Grid grid = new Grid(bits, G);
            Tensor w = s.normal("w", O, I), step = s.empty("step", O, I / G), zero = s.empty("zero", O, I / G), dy = s.normal("dy", O, I);
            Tensor words = s.on().memory().tensor("words", DType.I32, O, PackedWeight.wordsPerRow(I, bits));
            PackedWeight packed = new PackedWeight("w", bits, G, I, words, s.empty("step′", O, I / G), s.empty("zero′", O, I / G), null);
            Tensor fake = s.on().memory().tensor("fake", s.on().operand(), O, I), y = s.on().memory().tensor("y", s.on().operand(), O, I);
            Tensor dw = s.empty("dw", O, I), ds = s.empty("ds", O, I / G), dz = s.empty("dz", O, I / G), dpacked = s.empty("dpacked", O, I / G);
            s.on().groupRange(step, zero, w, grid);
            s.on().fakeQuant(fake, w, step, zero, grid);
            s.on().fakeQuantBack(write(dw), write(ds), write(dz), dy, w, step, zero, grid);
            s.on().pack(packed, w, step, zero);
            s.on().dequantize(y, packed, packed.step());
            s.on().dequantizeBack(write(dpacked), dy, packed);
            assertArrayEquals(s.on().memory().floats(fake), s.on().memory().floats(y), "dequantize(packed) is fakeQuant(w), bit for bit");
            return List.of(step, zero, fake, dw, ds, dpacked);
        });
    }

    // ---- attention -----------------------------------------------------------------------------------------------------

    /** Many tiles of every width, the backward with the forward's own o and lse. Inputs are BF16 numbers, so only p and ds are rounded. */
    @ParameterizedTest
    @CsvSource({"BF16, 150, 128", "BF16, 131, 96", "BF16, 193, 64", "BF16, 70, 20", "FP32, 70, 128", "FP32, 40, 256", "BF16, 20, 136"})
    void attentionOverManyTiles(Precision precision, int T, int D) {
        agree(precision, precision == Precision.BF16 ? 5e-3 : FP32, s -> {
            Heads h = new Heads(2, T, 4, 2, D);
            Tensor q = s.exact("q", 2 * T, 4 * D), k = s.exact("k", 2 * T, 2 * D), v = s.exact("v", 2 * T, 2 * D), dy = s.exact("dy", 2 * T, 4 * D);
            Tensor o = s.empty("o", q.dims()), lse = s.empty("lse", 2, 4, T), delta = s.empty("delta", 2, 4, T);
            Tensor dq = s.empty("dq", q.dims()), dk = s.normal("dk", k.dims()), dv = s.empty("dv", v.dims());
            s.on().attention(o, lse, q, k, v, h);
            s.on().attentionBack(write(dq), new Grad(dk, true), write(dv), delta, dy, o, lse, q, k, v, h);
            return List.of(o, lse, delta, dq, dk, dv);
        });
    }

    @Test
    void attentionOverALongCache() {
        agree(Precision.FP32, FP32, s -> {
            Heads h = new Heads(2, 300, 4, 2, 64);
            Tensor q = s.normal("q", 2, 256), k = s.normal("k", 2, 300, 128), v = s.normal("v", 2, 300, 128), o = s.empty("o", 2, 256);
            s.on().attentionCache(o, q, k, v, s.ints("lengths", 250, 301, 2), h);
            return List.of(o);
        });
    }

    @Test
    void headsThatAreTooWideAreRefused() {
        try (CudaBackend cuda = new CudaBackend(StandIn.open(), Precision.BF16)) {
            Stage s = new Stage(cuda);
            Tensor q = s.normal("q", 4, 512), o = s.empty("o", 4, 512), lse = s.empty("lse", 1, 1, 4);
            Fail f = assertThrows(Fail.class, () -> cuda.attention(o, lse, q, q, q, new Heads(1, 4, 1, 1, 512)));
            assertTrue(f.getMessage().contains("heads of 512 elements") && f.getMessage().contains("at most 256"), f.getMessage());
        }
    }

    /** What only a product reads may be written as its operand: the same as fp32 rounded afterwards, and half the memory. */
    @ParameterizedTest
    @ValueSource(ints = {32, 200})
    void outputsInOperandTypeAreTheRoundedOnes(int D) {
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.BF16)) {
            Stage s = new Stage(b);
            Heads h = new Heads(1, 70, 4, 2, D);
            Tensor q = s.normal("q", 70, 4 * D), k = s.normal("k", 70, 2 * D), v = s.normal("v", 70, 2 * D), gain = s.normal("gain", 4 * D),
                    rstd = s.empty("rstd", 70);
            Tensor wide = s.empty("wide", q.dims()), narrow = s.operand("narrow", q.dims()), lse = s.empty("lse", 1, 4, 70),
                    delta = s.empty("delta", 1, 4, 70);
            Tensor rounded = s.operand("rounded", q.dims()), again = s.empty("again", 1, 4, 70), dq = s.empty("dq", q.dims());
            List<Function<Tensor, Runnable>> ops = List.of(y -> () -> b.rmsnorm(y, rstd, q, gain, 1e-5f), y -> () -> b.swiglu(y, q, q),
                    y -> () -> b.attention(y, lse, q, k, v, h));
            for (Function<Tensor, Runnable> op : ops) {
                op.apply(wide).run();
                op.apply(narrow).run();
                b.copy(rounded, wide);
                assertArrayEquals(b.memory().floats(rounded), b.memory().floats(narrow));
            }
            b.attentionBack(write(dq), Grad.NONE, Grad.NONE, delta, q, narrow, lse, q, k, v, h);
            b.copy(wide, narrow);
            b.attentionBack(write(dq), Grad.NONE, Grad.NONE, again, q, wide, lse, q, k, v, h);
            assertArrayEquals(b.memory().floats(again), b.memory().floats(delta), "delta from the narrow o");
        }
    }

    // ---- chunks of logits ----------------------------------------------------------------------------------------------

    private static Stream<Divergence> divergences() {
        return Stream.of(Divergence.KL, new Divergence(false, 0.4f, 0.5f, 2), new Divergence(true, 0, 0, 1.5f), new Divergence(true, 0, 1, 1));
    }

    /** A vocabulary of several strides: slopes are written over logits in place, in BF16 over the first half of each row. */
    @ParameterizedTest
    @CsvSource({"FP32, 5003", "BF16, 5003", "BF16, 4096", "TF32, 2052"})
    void headAndLossInChunks(Precision precision, int V) {
        double rate = precision == Precision.FP32 ? FP32 : BF16;
        agree(precision, rate, s -> {
            int N = 7, C = 8, chunk = 3;
            Tensor x = s.operand("x", N, C), w = s.operand("w", V, C), targets = s.ints("targets", -1, V, N), loss = s.empty("loss", N);
            Tensor dx = s.normal("dx", N, C), dw = s.empty("dw", V, C), logits = s.empty("logits", chunk, V);
            s.on().crossEntropy(loss, new Grad(dx, true), write(dw), logits, x, w, targets, 0.25f);
            return List.of(loss, dx, dw);
        });
    }

    @ParameterizedTest
    @MethodSource("divergences")
    void divergencesInChunks(Divergence d) {
        for (Precision precision : List.of(Precision.FP32, Precision.BF16)) agree(precision, precision == Precision.FP32 ? FP32 : BF16, s -> {
            int N = 5, C = 6, Ct = 4, V = 2500, chunk = 2;
            Tensor x = s.operand("x", N, C), w = s.operand("w", V, C), tx = s.operand("tx", N, Ct), tw = s.operand("tw", V, Ct);
            Tensor targets = s.ints("targets", -1, V, N), loss = s.empty("loss", N), stats = s.empty("stats", N, 3), dx = s.empty("dx", N,
                    C), dw = s.normal("dw", V, C);
            Tensor logits = s.empty("logits", chunk, V), tlogits = s.empty("tlogits", chunk, V);
            s.on().distill(loss, write(dx), new Grad(dw, true), logits, tlogits, x, w, tx, tw, targets, d, 0.5f);
            s.on().compare(stats, logits, tlogits, x, w, tx, tw, targets);
            return List.of(loss, dx, dw, stats);
        });
    }

    @ParameterizedTest
    @CsvSource({"1, 0, 1", "1, 50, 1", "0.8, 0, 0.9", "1.3, 200, 0.7", "0, 0, 1"})
    void tokensOfALargeVocabularyAreTheReferences(float temperature, int topK, float topP) {
        agree(Precision.FP32, EXACT, s -> {
            int B = 4, V = 3001;
            Tensor logits = s.normal("logits", B, V), ids = s.on().memory().tensor("ids", DType.I32, B);
            s.on().scale(logits, logits, 3);
            s.on().sample(ids, logits, s.ints("keys", 0, 1000, B, 2), new Sampling(temperature, topK, topP, 0x1234_5678_9abcL));
            return List.of(ids);
        });
    }
}
