package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class TapeTest {
    private static final int N = 5, C = 8, F = 12;

    private final Backend backend = new ReferenceBackend();
    private final List<Backend> others = new ArrayList<>();

    @AfterEach
    void close() {
        backend.close();
        others.forEach(Backend::close);
    }

    // ---- write, add, skip --------------------------------------------------------------------------------------------

    @Test
    void theFirstContributionWritesAndLaterOnesAdd() {
        Tensor x = trained(backend, "x", 3);
        backend.fill(x.grad, Float.NaN);
        Tape t = tape(backend);
        for (int step = 0; step < 2; step++) {
            t.begin(true);
            Tensor sum = Ops.add(t, Ops.add(t, Ops.scale(t, x, 2), Ops.scale(t, x, 3)), x);
            Ops.mse(t, sum, zeros(t, 3));
            t.backward();
            // d mean (6x)² = 72 x / 3
            assertArrayEquals(scaled(floats(x), 24), floats(x.grad), 1e-4f, "in step " + step);
        }
    }

    @Test
    void whatIsFrozenCostsNothing() {
        Tensor x = constant(backend, "x", N, C), w = trained(backend, "w", F, C), v = constant(backend, "v", C, F);
        Meter meter = Meter.over(backend);
        Tape t = tape(meter.backend());
        t.begin(true);
        Tensor still = Ops.rmsnorm(t, x, constant(backend, "gain", C), 1e-5f);
        Ops.mse(t, Ops.linear(t, Ops.linear(t, still, w, null, null), v, null, null), zeros(t, N, C));
        t.backward();
        assertNull(v.grad);
        assertNull(still.grad);
        assertEquals(0, calls(meter, "rmsnormBack"));
        assertEquals(2, calls(meter, "linearBack"));
        double both = 2.0 * N * F * C;
        assertEquals(2 * both, meter.costs().get("linearBack").flop(), "dx of the second and dw of the first only");
    }

    @Test
    void anOutputThatNobodyUsedHasNoBackward() {
        Tensor x = trained(backend, "x", N, C);
        Meter meter = Meter.over(backend);
        Tape t = tape(meter.backend());
        t.begin(true);
        Ops.swiglu(t, x, x);
        Ops.mse(t, Ops.scale(t, x, 2), zeros(t, N, C));
        t.backward();
        assertEquals(0, calls(meter, "swigluBack"));
        assertEquals(1, calls(meter, "accumulate"));
    }

    @Test
    void notRecordingNothingIsKept() {
        Tensor x = trained(backend, "x", N, C);
        Tape t = tape(backend);
        t.begin(false);
        Tensor loss = Ops.mse(t, Ops.scale(t, x, 2), zeros(t, N, C));
        assertTrue(floats(loss)[0] > 0, "a loss is computed at once");
        long top = t.arena().mark();
        t.backward();
        assertEquals(top, t.arena().mark());
    }

    @Test
    void aGradientKeptInTheArenaLivesNoLongerThanItsStep() {
        Tensor x = constant(backend, "x", N, C), w = trained(backend, "w", C, C);
        x.wants = true;
        Tape t = tape(backend);
        List<float[]> gradients = new ArrayList<>();
        for (int step = 0; step < 3; step++) {
            t.begin(true);
            Ops.mse(t, Ops.linear(t, Ops.swiglu(t, x, x), w, null, x), zeros(t, N, C));
            t.backward();
            gradients.add(floats(x.grad));
        }
        assertArrayEquals(gradients.get(0), gradients.get(1));
        assertArrayEquals(gradients.get(0), gradients.get(2));
    }

    @Test
    void aGradientReadBeforeItIsWrittenIsRefused() {
        Tape t = tape(backend);
        t.begin(true);
        Tensor y = Ops.scale(t, trained(backend, "x", 2), 2);
        assertThrows(Fail.class, () -> t.gradOf(y));
    }

    // ---- segments ----------------------------------------------------------------------------------------------------

    /** The weights of a chain of residual blocks. */
    private record Chain(Tensor x, List<Tensor> gains, List<Tensor> ups, List<Tensor> downs) {
        static Chain of(Backend b, int blocks) {
            List<Tensor> gains = new ArrayList<>(), ups = new ArrayList<>(), downs = new ArrayList<>();
            for (int i = 0; i < blocks; i++) {
                gains.add(trained(b, "gain " + i, C));
                ups.add(trained(b, "up " + i, F, C));
                downs.add(trained(b, "down " + i, C, F));
            }
            return new Chain(trained(b, "x", N, C), gains, ups, downs);
        }

        Tensor block(Tape t, Tensor x, int i) {
            Tensor up = Ops.linear(t, Ops.rmsnorm(t, x, gains.get(i), 1e-5f), ups.get(i), null, null);
            return Ops.linear(t, Ops.swiglu(t, up, up), downs.get(i), null, x);
        }

        List<float[]> gradients() {
            List<float[]> all = new ArrayList<>(List.of(floats(x.grad)));
            for (List<Tensor> some : List.of(gains, ups, downs)) some.forEach(p -> all.add(floats(p.grad)));
            return all;
        }
    }

    /** What a step over four blocks gives: its loss, every gradient, and the arena it took. */
    private record Outcome(float loss, List<float[]> gradients, long peak) {}

    private Outcome run(DType operand, Function<Chain, Function<Tape, Tensor>> model) {
        Backend b = new ReferenceBackend(operand);
        others.add(b);
        Chain chain = Chain.of(b, 4);
        Tape t = tape(b);
        t.begin(true);
        Tensor loss = Ops.mse(t, model.apply(chain).apply(t), zeros(t, N, C));
        t.backward();
        return new Outcome(floats(loss)[0], chain.gradients(), t.arena().peak());
    }

    private Outcome segments(DType operand, boolean keep) {
        return run(operand, chain -> t -> {
            Tensor x = Ops.scale(t, chain.x, 1);
            for (int i = 0; i < 4; i++) {
                int block = i;
                x = t.segment(x, keep, h -> chain.block(t, h, block));
            }
            return x;
        });
    }

    private static void same(Outcome a, Outcome b) {
        assertEquals(a.loss, b.loss);
        for (int i = 0; i < a.gradients.size(); i++) assertArrayEquals(a.gradients.get(i), b.gradients.get(i), "gradient " + i);
    }

    @Test
    void droppedSegmentsGiveTheSameBitsInLessMemory() {
        for (DType operand : List.of(DType.F32, DType.BF16)) {
            Outcome kept = segments(operand, true), dropped = segments(operand, false);
            same(kept, dropped);
            assertTrue(dropped.peak < kept.peak, dropped.peak + " bytes, and " + kept.peak + " kept");
        }
    }

    @Test
    void aDroppedSegmentMayHoldOthers() {
        Outcome nested = run(DType.F32, chain -> t -> t.segment(Ops.scale(t, chain.x, 1), false, h -> {
            Tensor half = t.segment(h, false, g -> chain.block(t, chain.block(t, g, 0), 1));
            return t.segment(t.segment(half, false, g -> chain.block(t, g, 2)), true, g -> chain.block(t, g, 3));
        }));
        same(segments(DType.F32, true), nested);
    }

    @Test
    void segmentsInInterleavedChainsDoNotDisturbEachOther() {
        Function<Boolean, Outcome> three = keep -> run(DType.F32, chain -> t -> {
            Tensor a = Ops.scale(t, chain.x, 1), b = Ops.scale(t, chain.x, -2), c = Ops.scale(t, chain.x, 3);
            for (int i = 0; i < 4; i++) {
                int block = i;
                a = t.segment(a, keep, h -> chain.block(t, h, block));
                b = t.segment(b, keep, h -> chain.block(t, h, 3 - block));
                c = t.segment(c, keep, h -> square(t, chain, h, block));
            }
            return Ops.add(t, Ops.add(t, a, b), c);
        });
        same(three.apply(true), three.apply(false));
    }

    @Test
    void theGradientOfASegmentsInputOutlivesTheSegmentsBefore() {
        Function<Boolean, Outcome> leaf = keep -> run(DType.F32, chain -> t -> {
            chain.x.grad = null;
            Tensor y = Ops.scale(t, constant(t.backend(), "y", N, C), 2);
            for (int i = 1; i < 4; i++) {
                int block = i;
                y = t.segment(y, keep, h -> chain.block(t, h, block));
            }
            return Ops.add(t, y, t.segment(chain.x, keep, h -> chain.block(t, h, 0)));
        });
        same(leaf.apply(true), leaf.apply(false));
    }

    @Test
    void opsBetweenDroppedSegmentsReadTheGradientOfTheirOwnOutput() {
        for (DType operand : List.of(DType.F32, DType.BF16)) {
            Function<Boolean, Outcome> mixed = keep -> run(operand, chain -> t -> {
                Tensor x = Ops.scale(t, chain.x, 1);
                for (int i = 0; i < 4; i++) {
                    int block = i;
                    x = t.segment(square(t, chain, x, i), keep, h -> chain.block(t, h, block));
                }
                return x;
            });
            same(mixed.apply(true), mixed.apply(false));
        }
    }

    /** Two products without a residual around them. */
    private static Tensor square(Tape t, Chain chain, Tensor x, int i) {
        return Ops.linear(t, Ops.linear(t, x, chain.ups.get(i), null, null), chain.downs.get(i), null, null);
    }

    // ---- gradients in place ------------------------------------------------------------------------------------------

    private static final Grid GRID = new Grid(3, 4);

    @Test
    void theGradientOfAFakeQuantizedWeightNeedsNoMemoryOfItsOwn() {
        Tensor w = trained(backend, "w", F, C), step = trained(backend, "step", F, C / GRID.group()), x = constant(backend, "x", N, C);
        backend.fill(step, 0.3f);
        Tape t = tape(backend);
        t.begin(true);
        Tensor y = Ops.lsq(t, w, step, GRID);
        Ops.mse(t, Ops.linear(t, x, y, null, null), zeros(t, N, F));
        t.backward();
        assertSame(w.grad, y.grad);
        float[] shared = floats(w.grad), sharedStep = floats(step.grad);

        Tensor slab = w.grad;
        w.grad = null;
        t.begin(true);
        Tensor apart = Ops.lsq(t, w, step, GRID);
        Ops.mse(t, Ops.linear(t, x, apart, null, null), zeros(t, N, F));
        t.backward();
        assertNotEquals(w.grad.address, apart.grad.address);
        assertArrayEquals(floats(w.grad), shared);
        assertArrayEquals(floats(step.grad), sharedStep);
        w.grad = slab;
    }

    @Test
    void aWeightQuantizedTwiceLendsItsGradientOnce() {
        Tensor w = trained(backend, "w", F, C), step = trained(backend, "step", F, C / GRID.group()), x = constant(backend, "x", N, C);
        backend.fill(step, 0.3f);
        float[] twice = twoUses(w, step, x), once;
        Tape t = tape(backend);
        t.begin(true);
        Ops.mse(t, Ops.scale(t, Ops.linear(t, x, Ops.lsq(t, w, step, GRID), null, null), 2), zeros(t, N, F));
        t.backward();
        once = floats(w.grad);
        assertArrayEquals(once, twice, 1e-5f);
    }

    private float[] twoUses(Tensor w, Tensor step, Tensor x) {
        Tape t = tape(backend);
        t.begin(true);
        Tensor first = Ops.linear(t, x, Ops.lsq(t, w, step, GRID), null, null);
        Ops.mse(t, Ops.add(t, first, Ops.linear(t, x, Ops.lsq(t, w, step, GRID), null, null)), zeros(t, N, F));
        t.backward();
        return floats(w.grad);
    }

    @Test
    void aLentGradientIsRefusedToOthers() {
        Tensor w = trained(backend, "w", F, C), step = trained(backend, "step", F, C / GRID.group());
        backend.fill(step, 0.3f);
        Tape t = tape(backend);
        t.begin(true);
        Ops.mse(t, Ops.add(t, Ops.lsq(t, w, step, GRID), w), zeros(t, F, C));
        assertTrue(assertThrows(Fail.class, t::backward).getMessage().contains("lent"));
    }

    @Test
    void aLentGradientIsNotOverwrittenByAnotherUseThatComesFirst() {
        Tensor w = trained(backend, "w", F, C), step = trained(backend, "step", F, C / GRID.group());
        backend.fill(step, 0.3f);
        Tape t = tape(backend);
        t.begin(true);
        Tensor early = Ops.lsq(t, w, step, GRID), late = Ops.lsq(t, w, step, GRID);
        Tensor ofLate = Ops.scale(t, late, 2), ofEarly = Ops.scale(t, early, 3);
        Ops.mse(t, Ops.add(t, ofLate, ofEarly), zeros(t, F, C));
        assertTrue(assertThrows(Fail.class, t::backward).getMessage().contains("lent"));
    }

    // ---- operands ----------------------------------------------------------------------------------------------------

    @Test
    void aCopyInTheOperandTypeIsMadeOncePerStep() {
        Backend b = new ReferenceBackend(DType.BF16);
        others.add(b);
        Tensor x = constant(b, "x", N, C), w = trained(b, "w", F, C);
        Meter meter = Meter.over(b);
        Tape t = tape(meter.backend());
        t.begin(true);
        Tensor y = Ops.add(t, Ops.linear(t, x, w, null, null), Ops.linear(t, x, w, null, null));
        Ops.mse(t, y, zeros(t, N, F));
        t.backward();
        // x, w, and the gradient of each product
        assertEquals(4, calls(meter, "copy"));
    }

    @Test
    void aCopyInTheOperandTypeIsNeverOlderThanItsTapesStep() {
        Backend b = new ReferenceBackend(DType.BF16);
        others.add(b);
        Tensor x = constant(b, "x", N, C), w = trained(b, "w", F, C);
        Tape judging = tape(b), training = tape(b);
        judging.begin(false);
        Ops.linear(judging, x, w, null, null);
        b.fill(w, 0);
        training.begin(true);
        Tensor y = Ops.linear(training, x, w, null, null);
        assertArrayEquals(new float[N * F], floats(y), "the product read a copy of the weight from before it changed");
    }

    // ------------------------------------------------------------------------------------------------------------------

    private static Tape tape(Backend b) {
        return new Tape(b, Arena.of(b.memory(), "arena", 1 << 20));
    }

    private static Tensor constant(Backend b, String name, long... dims) {
        Tensor t = b.memory().tensor(name, dims);
        b.memory().set(t, Values.normal(name, Values.count(dims)));
        return t;
    }

    private static Tensor trained(Backend b, String name, long... dims) {
        Tensor t = constant(b, name, dims);
        t.wants = true;
        t.grad = b.memory().tensor("d " + name, dims);
        b.fill(t.grad, Float.NaN);
        return t;
    }

    private static Tensor zeros(Tape t, long... dims) {
        Tensor z = t.alloc("zeros", dims);
        t.backend().fill(z, 0);
        return z;
    }

    private static float[] floats(Tensor t) {
        try (ReferenceBackend reader = new ReferenceBackend()) {
            return reader.memory().floats(t);
        }
    }

    private static float[] scaled(float[] v, float s) {
        return Values.of(v.length, i -> v[i] * s);
    }

    private static long calls(Meter meter, String op) {
        return meter.costs().getOrDefault(op, new Meter.Cost(0, 0, 0, 0)).calls();
    }
}
