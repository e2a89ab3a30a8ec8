package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

/** The next block is read beside the computation: by another thread, into no memory of the device, and once. */
final class AheadTest {
    private final Map<String, String> readers = new ConcurrentHashMap<>();
    private final CountDownLatch second = new CountDownLatch(1);

    /** Every parameter holds a number of its own; those of the second block are there when the latch opens. */
    private void read(Memory memory, Param p) {
        try {
            if (p.name().contains("layers.1.")) second.await();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        readers.merge(p.name(), Thread.currentThread().getName(), (a, b) -> a + ", " + b);
        float[] v = new float[Math.toIntExact(p.value().size())];
        Arrays.fill(v, p.name().hashCode());
        memory.set(p.value(), v);
    }

    private Model open(Backend b) {
        return Model.open(Tiny.config(Tiny.LLAMA_BIASED), this::read, b.memory(), DType.F32);
    }

    private static void holds(Backend b, Block block) {
        for (Param p : block.layout()) {
            float[] expected = new float[Math.toIntExact(p.value().size())];
            Arrays.fill(expected, p.name().hashCode());
            assertArrayEquals(expected, b.memory().floats(p.value()), p.name());
        }
    }

    @Test
    void aBlockIsReadWhileAnotherIsComputedWith() {
        StandIn.load();
        try (Backend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Model m = open(b);
            Block first = m.blocks().get(0), next = m.blocks().get(1);
            m.bring(first, DType.F32);
            StandIn.Counters before = StandIn.counters();
            m.ahead(next);
            assertEquals(before.liveBytes(), StandIn.counters().liveBytes(), "bytes of the device");
            b.fill(first.q.weight.value(), 3); // what computes is not held up: the next block's bytes are not there yet
            b.sync();
            second.countDown();
            m.bring(next, DType.F32);
            holds(b, next);
            for (Param p : first.layout()) assertEquals(Thread.currentThread().getName(), readers.get(p.name()), p.name());
            for (Param p : next.layout()) assertEquals("next block", readers.get(p.name()), p.name());
        }
    }

    @Test
    void anotherBlockThanWasExpectedIsReadAsEver() {
        StandIn.load();
        second.countDown();
        try (Backend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Model m = open(b);
            m.ahead(m.blocks().get(1));
            m.bring(m.blocks().get(0), DType.F32);
            m.bring(m.blocks().get(1), DType.F32);
            m.blocks().forEach(block -> holds(b, block));
            m.ahead(null);
        }
    }

    @Test
    void aFileThatBreaksIsToldWhenTheBlockIsWanted() {
        StandIn.load();
        try (Backend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Fail broken = Fail.data("the file is broken");
            Model m = Model.open(Tiny.config(Tiny.LLAMA), (memory, p) -> {
                if (p.name().contains("layers.1.")) throw broken;
                memory.set(p.value(), new float[Math.toIntExact(p.value().size())]);
            }, b.memory(), DType.F32);
            m.ahead(m.blocks().get(1));
            assertSame(broken, assertThrows(Fail.class, () -> m.bring(m.blocks().get(1), DType.F32)));
            m.ahead(null);
        }
    }

    /** Where the host's cores compute, nothing is beside them. */
    @Test
    void onTheCpuNothingIsReadAhead() {
        try (Backend b = new CpuBackend(1)) {
            Model m = open(b);
            m.ahead(m.blocks().get(1)); // would wait for the latch
            assertTrue(readers.keySet().stream().noneMatch(n -> n.contains("layers.1.")));
        }
    }
}
