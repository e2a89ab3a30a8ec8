package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;
import java.io.OutputStream;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** Losses and gradients of whole pieces of a model against somebody else's autodiff: ND4J's SameDiff, in doubles. */
class SameDiffTest {
    private static final double TOLERANCE = 1e-6;
    private static final int N = 6, C = 8, F = 10, V = 13;

    private final Backend backend = new ReferenceBackend();
    private final Tape tape = new Tape(backend, Arena.of(backend.memory(), "arena", 1 << 20));
    private final SameDiff sd = SameDiff.create();
    private final Map<String, Tensor> ours = new LinkedHashMap<>();

    @AfterEach
    void close() {
        backend.close();
    }

    @Test
    void aGatedMlpBehindItsNorm() {
        tape.begin(true);
        Tensor x = trained("x", N, C), gain = trained("gain", C), gate = trained("gate", F, C), up = trained("up", F, C), down = trained("down", C, F);
        Tensor target = constant("target", N, C);
        Tensor n = Ops.rmsnorm(tape, x, gain, 1e-5f);
        Tensor h = Ops.swiglu(tape, Ops.linear(tape, n, gate, null, null), Ops.linear(tape, n, up, null, null));
        Tensor loss = Ops.mse(tape, Ops.linear(tape, h, down, null, null), target);

        SDVariable rms = sd.math.sqrt(var("x").mul(var("x")).mean(true, 1).add(1e-5f));
        SDVariable norm = var("x").div(rms).mul(var("gain")), g = times(norm, var("gate"));
        SDVariable y = times(g.mul(sd.nn.sigmoid(g)).mul(times(norm, var("up"))), var("down"));
        agree(loss, 1, sd.math.square(y.sub(values("target", N, C))).mean());
    }

    @Test
    void causalAttentionOfTwoHeadsThatShareTheirKeys() {
        int T = 9, D = 4;
        tape.begin(true);
        Tensor q = trained("q", T, 2 * D), k = trained("k", T, D), v = trained("v", T, D), target = constant("target", T, 2 * D);
        Tensor loss = Ops.mse(tape, Ops.attention(tape, q, k, v, new Heads(1, T, 2, 1, D)), target);

        SDVariable mask = sd.constant(Nd4j.create(mask(T), new long[] {T, T}, DataType.DOUBLE));
        SDVariable[] heads = new SDVariable[2];
        for (int h = 0; h < 2; h++) {
            SDVariable mine = var("q").mmul(sd.constant(columns(2 * D, h * D, D)));
            heads[h] = sd.nn.softmax(times(mine, var("k")).div(Math.sqrt(D)).add(mask), 1).mmul(var("v"));
        }
        agree(loss, 1, sd.math.square(sd.concat(1, heads).sub(values("target", T, 2 * D))).mean());
    }

    @Test
    void theHeadAndItsCrossEntropy() {
        tape.begin(true);
        Tensor x = trained("x", N, C), head = trained("head", V, C), targets = targets();
        Tensor loss = Ops.crossEntropy(tape, x, head, targets, 4, 1f / N);
        agree(loss, 1.0 / N, nll(times(var("x"), var("head"))).mul(1.0 / N));
    }

    @Test
    void everyDivergenceFromATeacher() {
        for (Divergence d : new Divergence[] {Divergence.KL, new Divergence(false, 1, 0, 1), new Divergence(false, 0.3f, 0, 2), new Divergence(true, 0, 0, 1),
                new Divergence(true, 0, 0.5f, 1.5f)}) {
            SameDiffTest fresh = new SameDiffTest();
            fresh.divergence(d);
            fresh.close();
        }
    }

    private void divergence(Divergence d) {
        tape.begin(true);
        Tensor x = trained("x", N, C), head = trained("head", V, C), tx = constant("tx", N, F), thead = constant("thead", V, F);
        Tensor loss = Ops.distill(tape, x, head, tx, thead, targets(), 4, d, 0.5f);

        SDVariable logits = times(var("x"), var("head")), tlogits = times(values("tx", N, F), values("thead", V, F));
        SDVariable ls = logSoftmax(logits.div(d.temperature())), lt = logSoftmax(tlogits.div(d.temperature()));
        SDVariable s = sd.math.exp(ls), t = sd.math.exp(lt), lm = sd.math.log(s.add(t).div(2));
        SDVariable soft = d.jensenShannon() ? kl(t, lt, lm).add(kl(s, ls, lm)).div(2)
                : kl(s, ls, lt).mul(d.reverse()).add(kl(t, lt, ls).mul(1 - (double) d.reverse()));
        agree(loss, 0.5, soft.mul((double) d.temperature() * d.temperature()).add(nll(logits).mul(d.hard())).mul(0.5));
    }

    private static SDVariable kl(SDVariable p, SDVariable logP, SDVariable logQ) {
        return p.mul(logP.sub(logQ)).sum();
    }

    /** Written out, since SameDiff cannot differentiate its own (it fails to copy that op's dimension). */
    private SDVariable logSoftmax(SDVariable x) {
        return x.sub(sd.math.log(sd.math.exp(x).sum(true, 1)));
    }

    private SDVariable nll(SDVariable logits) {
        double[] picked = new double[N * V];
        for (int n = 0; n < N; n++) picked[n * V + target(n)] = -1;
        return logSoftmax(logits).mul(sd.constant(Nd4j.create(picked, new long[] {N, V}, DataType.DOUBLE))).sum();
    }

    // ---- ours --------------------------------------------------------------------------------------------------------

    private Tensor trained(String name, long... dims) {
        Tensor t = constant(name, dims);
        t.wants = true;
        t.grad = backend.memory().tensor("d " + name, dims);
        ours.put(name, t);
        sd.var(name, Nd4j.create(doubles(floats(name, dims)), dims, DataType.DOUBLE));
        return t;
    }

    private Tensor constant(String name, long... dims) {
        Tensor t = backend.memory().tensor(name, dims);
        backend.memory().set(t, floats(name, dims));
        return t;
    }

    private static float[] floats(String name, long... dims) {
        return Values.of(Values.count(dims), i -> Values.normal(name, Values.count(dims))[i] * 0.5f);
    }

    private Tensor targets() {
        Tensor t = backend.memory().tensor("targets", DType.I32, N);
        int[] all = new int[N];
        for (int n = 0; n < N; n++) all[n] = target(n);
        backend.memory().set(t, all);
        return t;
    }

    private static int target(int n) {
        return n * 5 % V;
    }

    // ---- theirs ------------------------------------------------------------------------------------------------------

    private SDVariable var(String name) {
        return sd.getVariable(name);
    }

    private SDVariable values(String name, long... dims) {
        return sd.constant(Nd4j.create(doubles(floats(name, dims)), dims, DataType.DOUBLE));
    }

    /** x · wᵀ */
    private SDVariable times(SDVariable x, SDVariable w) {
        return x.mmul(sd.transpose(w));
    }

    /** Zero up to the diagonal, and so little above it that its exponential is none. */
    private static double[] mask(int T) {
        double[] m = new double[T * T];
        for (int i = 0; i < m.length; i++) m[i] = i % T > i / T ? -1e9 : 0;
        return m;
    }

    /** The matrix that picks {@code count} columns out of {@code all}. */
    private static INDArray columns(int all, int from, int count) {
        double[] m = new double[all * count];
        for (int i = 0; i < count; i++) m[(from + i) * count + i] = 1;
        return Nd4j.create(m, new long[] {all, count}, DataType.DOUBLE);
    }

    // ---- both --------------------------------------------------------------------------------------------------------

    private void agree(Tensor loss, double scale, SDVariable theirLoss) {
        tape.backward();
        theirLoss.markAsLoss();
        Map<String, INDArray> theirs = quietly(() -> sd.calculateGradients(null, ours.keySet()));
        double value = 0;
        for (float l : backend.memory().floats(loss)) value += scale * l;
        assertEquals(theirLoss.eval().getDouble(0), value, TOLERANCE * Math.abs(value));
        ours.forEach((name, p) -> compare(name, backend.memory().floats(p.grad), theirs.get(name).dup('c').data().asDouble()));
    }

    /** SameDiff tells standard output of every op it differentiates. */
    private static <T> T quietly(java.util.function.Supplier<T> work) {
        PrintStream out = System.out;
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        try {
            return work.get();
        } finally {
            System.setOut(out);
        }
    }

    private static void compare(String name, float[] got, double[] expected) {
        assertEquals(expected.length, got.length);
        double size = Arrays.stream(expected).map(Math::abs).max().orElseThrow();
        assertTrue(size > 0, "SameDiff's gradient of " + name + " is zero");
        for (int i = 0; i < got.length; i++) assertEquals(expected[i], got[i], TOLERANCE * size, "d" + name + "[" + i + "]");
    }

    private static double[] doubles(float[] v) {
        double[] d = new double[v.length];
        for (int i = 0; i < d.length; i++) d[i] = v[i];
        return d;
    }
}
