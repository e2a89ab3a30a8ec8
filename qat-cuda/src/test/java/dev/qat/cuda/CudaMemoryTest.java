package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import org.junit.jupiter.api.Test;

/** A device's memory as tensors see it. */
class CudaMemoryTest {
    @Test
    void aFullDeviceSaysWhoHoldsWhatAndWhichKeysHelp() {
        StandIn.load();
        try (CudaBackend backend = new CudaBackend(StandIn.open(), Precision.BF16)) {
            backend.memory().tensor("gradients of block 3", 3 << 20);
            Fail f = assertThrows(Fail.class, () -> backend.memory().allocate("step of e2e-qp", 1L << 40));
            assertEquals(Fail.DEVICE, f.code());
            for (String part : new String[] {"step of e2e-qp wants 1,099,511,627,776 bytes", "12,582,912  gradients of block 3",
                    "cuBLAS workspace", "partial sums",
                    "recompute: true", "batch", "data.length", "eval.batch"}) {
                assertTrue(f.getMessage().contains(part), part + " is not in: " + f.getMessage());
            }
        }
    }

    @Test
    void aBackendHoldsWhatItSays() {
        StandIn.load();
        try (CudaBackend backend = new CudaBackend(StandIn.open(), Precision.FP32)) {
            assertEquals(CudaBackend.HELD, backend.memory().slabs().stream().mapToLong(Memory.Slab::bytes).sum());
            assertEquals(CudaBackend.HELD, StandIn.counters().peakBytes());
        }
        assertEquals(0, StandIn.counters().liveBytes());
        assertEquals(0, StandIn.counters().pinnedBytes());
    }

    /** More small writes than there are slots, to one place and to many, each before the ones after it. */
    @Test
    void smallWritesArriveInOrder() {
        try (CudaBackend backend = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Memory m = backend.memory();
            Tensor x = m.tensor("x", 3), sum = m.tensor("sum", 3);
            backend.fill(sum, 0);
            for (int i = 1; i <= 100; i++) {
                m.set(x, i, 2 * i, 0.5f);
                backend.add(sum, sum, x);
            }
            assertArrayEquals(new float[] {5050, 10100, 50}, m.floats(sum));
        }
    }

    @Test
    void writesOfEverySizeComeBack() {
        try (CudaBackend backend = new CudaBackend(StandIn.open(), Precision.FP32)) {
            for (int n : new int[] {1, Staging.SLOT / 4, Staging.SLOT / 4 + 1, 300_000}) {
                Tensor x = backend.memory().tensor("x" + n, n), i = backend.memory().tensor("i" + n, DType.I32, 2);
                float[] v = Floats.normal(n, n);
                backend.memory().set(x, v);
                backend.memory().set(i, n, -n);
                assertArrayEquals(v, backend.memory().floats(x));
                assertArrayEquals(new int[] {n, -n}, backend.memory().ints(i));
                Fail f = assertThrows(Fail.class, () -> backend.memory().write(x, java.lang.foreign.MemorySegment.ofArray(new float[n + 1])));
                assertTrue(f.getMessage().contains("takes %d bytes, got %d".formatted(4 * n, 4 * n + 4)), f.getMessage());
            }
        }
    }
}
