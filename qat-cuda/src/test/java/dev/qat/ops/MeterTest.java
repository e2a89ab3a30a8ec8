package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.ShapeMemory;
import dev.qat.tensor.Tensor;
import java.util.function.Function;
import org.junit.jupiter.api.Test;

class MeterTest {
    private static final Heads HEADS = new Heads(2, 7, 4, 2, 8);
    private static final int N = 14, C = 32, V = 50;

    /** A small decoder with everything a real one has. */
    private static Tensor step(Tape t) {
        Memory m = t.backend().memory();
        Tensor ids = ints(m, "ids"), positions = ints(m, "positions"), table = trained(m, "table", V, C), gain = trained(m, "gain", C);
        Tensor angles = m.tensor("angles", 2, 7, 4), wq = trained(m, "wq", C, C), wk = trained(m, "wk", 16, C), step = trained(m, "step", C, 4);
        t.begin(true);
        Tensor x = Ops.embed(t, ids, table);
        for (int layer = 0; layer < 2; layer++) {
            x = t.segment(x, false, h -> {
                Tensor n = Ops.rmsnorm(t, h, gain, 1e-5f);
                Tensor q = Ops.rope(t, Ops.linear(t, n, Ops.lsq(t, wq, step, new Grid(4, 8)), null, null), angles, positions);
                Tensor k = Ops.rope(t, Ops.linear(t, n, wk, null, null), angles, positions);
                Tensor a = Ops.attention(t, q, k, Ops.linear(t, n, wk, null, null), HEADS);
                return Ops.add(t, h, Ops.swiglu(t, a, a));
            });
        }
        Tensor loss = Ops.crossEntropy(t, Ops.rmsnorm(t, x, gain, 1e-5f), table, ids, 5, 1f / N);
        t.backward();
        return loss;
    }

    private static Tensor ints(Memory m, String name) {
        return m.tensor(name, DType.I32, N);
    }

    private static Tensor trained(Memory m, String name, long... dims) {
        Tensor p = m.tensor(name, dims);
        p.wants = true;
        p.grad = m.tensor("d " + name, dims);
        return p;
    }

    @Test
    void aStepOnShapesAloneNeedsTheSameArenaAndTheSameWorkAsARealOne() {
        for (DType operand : new DType[] {DType.F32, DType.BF16}) {
            try (Backend backend = new ReferenceBackend(operand)) {
                Meter real = Meter.over(backend), plan = Meter.shape(operand, new ShapeMemory(64));
                Arena arena = Arena.of(backend.memory(), "arena", 1 << 20), counted = Arena.counting();
                step(new Tape(real.backend(), arena));
                step(new Tape(plan.backend(), counted));
                assertEquals(arena.peak(), counted.peak());
                assertEquals(arena.peakTable(), counted.peakTable());
                assertEquals(real.flop(), plan.flop());
                assertEquals(real.bytes(), plan.bytes());
                assertEquals(real.costs().keySet(), plan.costs().keySet());
                real.costs().forEach((op, c) -> assertEquals(c.calls(), plan.costs().get(op).calls(), op));
                assertTrue(real.costs().values().stream().mapToDouble(Meter.Cost::seconds).sum() > 0);
                assertEquals(0, plan.costs().values().stream().mapToDouble(Meter.Cost::seconds).sum());
            }
        }
    }

    @Test
    void anArenaOfThePlannedSizeIsEnoughAndOneLessIsNot() {
        Arena counted = Arena.counting();
        step(new Tape(Meter.shape(DType.F32, new ShapeMemory(64)).backend(), counted));
        Function<Long, Tensor> run = bytes -> {
            try (Backend backend = new ReferenceBackend()) {
                return step(new Tape(backend, Arena.of(backend.memory(), "arena", bytes)));
            }
        };
        run.apply(counted.peak());
        assertThrows(Fail.class, () -> run.apply(counted.peak() - 1));
    }

    @Test
    void operationsAreThoseOfTheProducts() {
        try (Backend backend = new ReferenceBackend()) {
            Meter meter = Meter.over(backend);
            Tape t = new Tape(meter.backend(), Arena.of(backend.memory(), "arena", 1 << 16));
            Tensor x = backend.memory().tensor("x", 3, 5), w = trained(backend.memory(), "w", 7, 5);
            t.begin(true);
            Ops.mse(t, Ops.linear(t, x, w, null, null), backend.memory().tensor("target", 3, 7));
            t.backward();
            assertEquals(2.0 * 3 * 5 * 7, meter.costs().get("linear").flop());
            assertEquals(2.0 * 3 * 5 * 7, meter.costs().get("linearBack").flop(), "dx is frozen");
            assertEquals(4.0 * (21 + 15 + 35), meter.costs().get("linear").bytes());
            meter.reset();
            assertEquals(0, meter.flop());
        }
    }
}
