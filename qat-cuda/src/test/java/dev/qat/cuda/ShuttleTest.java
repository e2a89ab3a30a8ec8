package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cuda.Device.Lane;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Shuttle;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Copies beside the computation: right however far the lanes run ahead of one another, wrong as soon as one wait is left out. */
class ShuttleTest {
    private static final int N = 300, BATCHES = 9, PASSES = 3, ORDERS = 24;

    /** A device that forgets to hold one lane back. */
    static Device without(Device device, Lane forgotten) {
        return proxy(Device.class, device, forgotten);
    }

    private static <T> T proxy(Class<T> type, Object of, Lane forgotten) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (_, m, args) -> {
            if (m.getName().equals("hold") && args[0] == forgotten) return null;
            try {
                Object got = m.invoke(of, args);
                return m.getReturnType() == Device.Event.class ? proxy(Device.Event.class, got, forgotten) : got;
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
        }));
    }

    /** Carries batches through x → 2 x + 1 so many times, the next one sent ahead, in place on the host. */
    private static float[] carry(CudaBackend b, Device device, long haste) {
        StandIn.haste(haste);
        Memory m = b.memory();
        long bytes = 4L * N, address = m.allocateOnHost("states", BATCHES * bytes);
        MemorySegment states = MemorySegment.ofAddress(address).reinterpret(BATCHES * bytes);
        for (int i = 0; i < BATCHES * N; i++) states.setAtIndex(ValueLayout.JAVA_FLOAT, i, i);
        Tensor x = m.tensor("x", N), one = m.tensor("one", N);
        b.fill(one, 1);
        try (Shuttle shuttle = new CudaShuttle(device, m, "states on their way", 4, DType.F32, N)) {
            for (int pass = 0; pass < PASSES; pass++) {
                for (int i = 0; i < BATCHES; i++) {
                    b.copy(x, shuttle.take(states.asSlice(i * bytes, bytes)));
                    shuttle.taken();
                    if (i + 1 < BATCHES) shuttle.send(states.asSlice((i + 1) * bytes, bytes));
                    b.scale(x, x, 2);
                    b.add(x, x, one);
                    b.copy(shuttle.give(states.asSlice(i * bytes, bytes)), x);
                    shuttle.given();
                }
                shuttle.land();
            }
        }
        float[] out = states.toArray(ValueLayout.JAVA_FLOAT);
        for (Tensor t : new Tensor[] {x, one}) m.free(t.address);
        m.free(address);
        StandIn.haste(0);
        return out;
    }

    private static float[] expected() {
        float[] e = new float[BATCHES * N];
        for (int i = 0; i < e.length; i++) {
            e[i] = i;
            for (int pass = 0; pass < PASSES; pass++) e[i] = 2 * e[i] + 1;
        }
        return e;
    }

    @Test
    void batchesArriveHoweverTheLanesRun() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            for (int order = 0; order < ORDERS; order++) assertArrayEquals(expected(), carry(b, b.device(), order), "order " + order);
            StandIn.checkGuards();
        }
    }

    @ParameterizedTest
    @EnumSource(Lane.class)
    void aForgottenWaitShows(Lane forgotten) {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            int wrong = 0;
            for (int order = 0; order < ORDERS; order++) if (!Arrays.equals(expected(), carry(b, without(b.device(), forgotten), order))) wrong++;
            System.err.printf("without the waits of the %s lane: wrong in %d of %d orders%n", forgotten, wrong, ORDERS);
            assertTrue(wrong > 0, "no order shows that the " + forgotten + " lane does not wait");
        }
    }

    /** Large writes go through two halves on a lane of their own, between the work before them and the work behind them. */
    @Test
    void largeWritesKeepTheirPlace() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            int n = 3 * Staging.HALF / 4 + 5;
            for (Lane forgotten : new Lane[] {null, Lane.COMPUTE, Lane.UPLOAD}) {
                int wrong = 0;
                for (int order = 0; order < 4; order++) if (!written(b, without(b.device(), forgotten), n, order)) wrong++;
                assertEquals(forgotten != null, wrong > 0, "without the waits of " + forgotten + ": wrong in " + wrong + " orders");
            }
            StandIn.checkGuards();
        }
    }

    /** y = old x, x = pieces, z = new x: whether each is what it should be. */
    private static boolean written(CudaBackend b, Device device, int n, long haste) {
        Memory m = b.memory();
        Tensor x = m.tensor("x", n), y = m.tensor("y", n), z = m.tensor("z", n);
        boolean right;
        try (Staging staging = new Staging(device)) {
            b.fill(x, 1);
            b.fill(z, 0);
            b.sync();
            StandIn.haste(haste);
            b.copy(y, x);
            staging.write(x.address, x.bytes(), (piece, at) -> {
                for (long i = 0; i < piece.byteSize() / 4; i++) piece.setAtIndex(ValueLayout.JAVA_FLOAT, i, at / 4 + i);
            });
            b.copy(z, x);
            b.sync();
            StandIn.haste(0);
            float[] before = m.floats(y), after = m.floats(z);
            right = true;
            for (int i = 0; i < n; i++) right &= before[i] == 1 && after[i] == i;
        }
        for (Tensor t : new Tensor[] {x, y, z}) m.free(t.address);
        return right;
    }

    /** In steady state a batch costs copies and marks: no wait, no allocation. */
    @Test
    void nothingHoldsTheHost() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Memory m = b.memory();
            long bytes = 4L * N, address = m.allocateOnHost("states", BATCHES * bytes);
            MemorySegment states = MemorySegment.ofAddress(address).reinterpret(BATCHES * bytes);
            Tensor x = m.tensor("x", N);
            try (Shuttle shuttle = m.shuttle("states on their way", 4, DType.F32, N)) {
                shuttle.send(states.asSlice(0, bytes));
                StandIn.Counters before = StandIn.counters();
                for (int i = 0; i < BATCHES; i++) {
                    b.copy(x, shuttle.take(states.asSlice(i * bytes, bytes)));
                    shuttle.taken();
                    if (i + 1 < BATCHES) shuttle.send(states.asSlice((i + 1) * bytes, bytes));
                    b.copy(shuttle.give(states.asSlice(i * bytes, bytes)), x);
                    shuttle.given();
                }
                StandIn.Counters after = StandIn.counters();
                assertEquals(before.syncs(), after.syncs());
                assertEquals(before.allocs(), after.allocs());
                assertEquals(BATCHES - 1, after.uploads() - before.uploads());
                assertEquals(BATCHES, after.downloads() - before.downloads());
                shuttle.land();
                assertEquals(before.syncs() + 1, StandIn.counters().syncs());
            }
            m.free(x.address);
            m.free(address);
        }
    }

    @Test
    void moreThanThereIsRoomForIsRefused() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            long address = b.memory().allocateOnHost("states", 12L * N);
            MemorySegment states = MemorySegment.ofAddress(address).reinterpret(12L * N);
            try (Shuttle shuttle = b.memory().shuttle("states on their way", 2, DType.F32, N)) {
                for (int i = 0; i < 2; i++) shuttle.send(states.asSlice(4L * N * i, 4L * N));
                Fail f = assertThrows(Fail.class, () -> shuttle.send(states.asSlice(8L * N, 4L * N)));
                assertTrue(f.getMessage().contains("all 2 berths of states on their way"), f.getMessage());
            }
            b.memory().free(address);
        }
    }
}
