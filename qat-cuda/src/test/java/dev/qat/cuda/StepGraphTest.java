package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.ops.Grid;
import dev.qat.ops.Heads;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** A captured training step is the eager one bit for bit, and costs one launch. */
class StepGraphTest {
    private static final int B = 2, T = 6, N = B * T, C = 16, H = 2, F = 24, V = 31, STEPS = 6;
    private CudaBackend backend;

    @BeforeEach
    void open() {
        backend = new CudaBackend(StandIn.open(), Precision.BF16);
    }

    @AfterEach
    void close() {
        backend.close();
        if (StandIn.standing()) StandIn.checkGuards();
    }

    /** A decoder of one block with a fake-quantized product, its loss, its gradients, their norm, and AdamW over one slab. */
    private final class Toy {
        private final Memory memory = backend.memory();
        private final List<Tensor> params = new ArrayList<>();
        private final Tensor values = memory.tensor("values", 8192), grads = memory.tensor("gradients", 8192);
        private final Tensor means = memory.tensor("means", 8192), squares = memory.tensor("squares", 8192);
        private final Tensor ids = memory.tensor("ids", DType.I32, N), targets = memory.tensor("targets", DType.I32, N);
        private final Tensor positions = memory.tensor("positions", DType.I32, N), table = memory.tensor("angles", 2, T, C / H / 2);
        private final Tensor hyper = memory.tensor("hyper", 8), norm = memory.tensor("norm", 1), loss = memory.tensor("loss", 1);
        private final Arena arena = Arena.of(memory, "step", 1 << 20);
        private final Tape tape = new Tape(backend, arena);
        private final Tensor embedding = param("embedding", V, C), gain = param("gain", C), qkv = param("qkv", C, C), gate = param("gate", F, C);
        private final Tensor up = param("up", F, C), down = param("down", C, F), step = param("step", C, C / 8), zero = param("zero", C, C / 8);
        private final Grid grid = new Grid(3, 8);

        Toy() {
            memory.set(values, Floats.normal(8192, 3));
            backend.scale(values, values, 0.3f);
            for (Tensor t : List.of(grads, means, squares, norm)) backend.fill(t, 0);
            backend.groupRange(step, zero, qkv, grid);
            int half = T * C / H / 2;
            float[] angles = new float[2 * half];
            for (int i = 0; i < half; i++) {
                angles[i] = (float) Math.cos(0.1 * i);
                angles[half + i] = (float) Math.sin(0.1 * i);
            }
            memory.set(table, angles);
            int[] at = new int[N];
            for (int i = 0; i < N; i++) at[i] = i % T;
            memory.set(positions, at);
        }

        private Tensor param(String name, long... dims) {
            long at = params.stream().mapToLong(p -> (p.size() + 63) / 64 * 64).sum();
            Tensor p = values.view(at, dims);
            p.wants = true;
            p.grad = grads.view(at, dims);
            params.add(p);
            return p;
        }

        /** What changes from step to step goes to the device before the step. */
        void feed(int i) {
            int[] in = new int[N], out = new int[N];
            for (int n = 0; n < N; n++) {
                in[n] = (5 * n + 3 * i) % V;
                out[n] = n % T == T - 1 ? -1 : (5 * n + 5 + 3 * i) % V;
            }
            memory.set(ids, in);
            memory.set(targets, out);
            float c1 = (float) (1 / (1 - Math.pow(0.9, i + 1))), c2 = (float) (1 / (1 - Math.pow(0.99, i + 1)));
            memory.set(hyper, 1e-2f / (i + 1), 0.9f, 0.99f, 1e-8f, 0.01f, c1, c2, 1f);
        }

        void step() {
            tape.begin(true);
            Heads heads = new Heads(B, T, H, H, C / H);
            Tensor x = Ops.embed(tape, ids, embedding), n = Ops.rmsnorm(tape, x, gain, 1e-5f);
            Tensor w = Ops.fakeQuant(tape, qkv, step, zero, grid);
            Tensor q = Ops.rope(tape, Ops.linear(tape, n, w, null, null), table, positions);
            Tensor a = Ops.add(tape, x, Ops.attention(tape, q, q, n, heads));
            Tensor m = Ops.swiglu(tape, Ops.linear(tape, a, gate, null, null), Ops.linear(tape, a, up, null, null));
            Tensor y = Ops.linear(tape, m, down, null, a);
            Tensor losses = Ops.crossEntropy(tape, y, embedding, targets, 5, 1f / N);
            tape.backward();
            backend.sum(loss, losses, 1f / N);
            backend.sumSquares(norm, grads);
            backend.adamw(values, grads, means, squares, hyper, norm);
        }

        float[] state() {
            float[] v = memory.floats(values), all = java.util.Arrays.copyOf(v, v.length + 1);
            all[v.length] = memory.floats(loss)[0];
            return all;
        }
    }

    private static List<float[]> run(Toy toy, StepGraph graph, int steps) {
        List<float[]> states = new ArrayList<>();
        for (int i = 0; i < steps; i++) {
            toy.feed(i);
            graph.run(toy::step);
            states.add(toy.state());
        }
        return states;
    }

    @Test
    void replayedStepsAreTheEagerOnesBitForBit() {
        List<float[]> eager, replayed;
        try (StepGraph graph = backend.stepGraph(true)) {
            eager = run(new Toy(), graph, STEPS);
            assertFalse(graph.captured(), "an eager recorder never captures");
        }
        try (StepGraph graph = backend.stepGraph(false)) {
            replayed = run(new Toy(), graph, STEPS);
            assertTrue(graph.captured() && graph.nodes() > 30, "a step of " + graph.nodes() + " launches");
        }
        for (int i = 0; i < STEPS; i++) assertArrayEquals(eager.get(i), replayed.get(i), "after step " + i);
        assertTrue(last(eager.get(STEPS - 1)) < last(eager.getFirst()), "training lowers the loss");
    }

    private static float last(float[] state) {
        return state[state.length - 1];
    }

    @Test
    void aSteadyStepIsOneLaunchAndNothingElse() {
        StandIn.load();
        Toy toy = new Toy();
        try (StepGraph graph = backend.stepGraph(false)) {
            run(toy, graph, 3);
            for (int i = 3; i < STEPS; i++) {
                toy.feed(i);
                StandIn.Counters a = StandIn.counters();
                graph.run(() -> {
                    throw new AssertionError("a replay runs no Java code of the step");
                });
                StandIn.Counters b = StandIn.counters();
                assertEquals(1, b.graphLaunches() - a.graphLaunches());
                assertEquals(List.of(a.launches(), a.gemms(), a.copies(), a.fills(), a.uploads(), a.downloads(), a.syncs(), a.allocs(), a.frees()),
                        List.of(b.launches(), b.gemms(), b.copies(), b.fills(), b.uploads(), b.downloads(), b.syncs(), b.allocs(), b.frees()),
                        "launches, products, copies, fills, uploads, downloads, waits, allocations, frees");
            }
        }
    }

    /** Even feeding it does not hold the host: tokens and rates go through pinned memory. */
    @Test
    void feedingAStepWaitsForNothing() {
        StandIn.load();
        Toy toy = new Toy();
        try (StepGraph graph = backend.stepGraph(false)) {
            run(toy, graph, 3);
            long before = StandIn.counters().syncs();
            for (int i = 3; i < 7; i++) {
                toy.feed(i);
                graph.run(toy::step);
            }
            assertEquals(before, StandIn.counters().syncs());
            toy.state();
            assertNotEquals(before, StandIn.counters().syncs(), "reading the result waits");
        }
    }

    @Test
    void invalidatingCapturesAnew() {
        Toy toy = new Toy(), other = new Toy();
        try (StepGraph graph = backend.stepGraph(false)) {
            run(toy, graph, 4);
            graph.invalidate();
            assertFalse(graph.captured());
            List<float[]> got = run(other, graph, 4);
            assertTrue(graph.captured());
            try (StepGraph eager = backend.stepGraph(true)) {
                List<float[]> expected = run(new Toy(), eager, 4);
                for (int i = 0; i < 4; i++) assertArrayEquals(expected.get(i), got.get(i), "after step " + i);
            }
        }
    }

    @Test
    void hostAccessInsideACapturedStepIsRefusedAndTheDeviceGoesOn() {
        Toy toy = new Toy();
        try (StepGraph graph = backend.stepGraph(false)) {
            run(toy, graph, 2);
            Fail written = assertThrows(Fail.class, () -> graph.run(() -> toy.feed(2)));
            assertTrue(written.getMessage().contains("written from the host inside a captured step"), written.getMessage());
            Fail read = assertThrows(Fail.class, () -> graph.run(() -> toy.memory.floats(toy.loss)));
            assertTrue(read.getMessage().contains("read by the host inside a captured step"), read.getMessage());
            toy.feed(2);
            graph.run(toy::step);
            assertTrue(graph.captured() && Float.isFinite(last(toy.state())));
        }
    }
}
