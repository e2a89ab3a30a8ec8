package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cuda.Device.Lane;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Stowage;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What waits on the host comes back as it went, eager and captured, however the lanes run; with one lane's waits left out it does not. */
class StowageTest {
    private static final int N = 300, BLOCKS = 7, STEPS = 30;

    /** x goes through blocks, each twice itself plus one; then back through what every block began with, all added up. */
    private static void step(CudaBackend b, Stowage stowage, Tensor x, Tensor one, Tensor sum) {
        stowage.clear();
        List<Tensor> inputs = new ArrayList<>();
        Tensor in = x;
        for (int i = 0; i < BLOCKS; i++) {
            Tensor y = stowage.put("y" + i, DType.F32, N);
            b.add(y, in, in);
            b.add(y, y, one);
            if (i > 0) stowage.send(in);
            inputs.add(in = y);
        }
        stowage.drop(inputs.removeLast());
        b.fill(sum, 0);
        for (Tensor y : inputs.reversed()) {
            stowage.fetch(y);
            b.add(sum, sum, y);
            stowage.drop(y);
        }
        stowage.clear();
    }

    private static float expected(float x) {
        float sum = 0;
        for (int i = 0; i < BLOCKS - 1; i++) sum += x = 2 * x + 1;
        return sum;
    }

    /** How many steps went wrong, eager ones or, from the third on, replays. */
    private static int wrong(CudaBackend b, Device device, boolean eager) {
        Memory m = b.memory();
        Tensor x = m.tensor("x", N), one = m.tensor("one", N), sum = m.tensor("sum", N);
        b.fill(one, 1);
        int wrong = 0;
        try (Stowage stowage = new CudaStowage(device, m, "stowed", BLOCKS * 4L * N, 4L * N); StepGraph graph = new StepGraph(device, (CudaMemory) m, eager)) {
            for (int i = 0; i < STEPS; i++) {
                StandIn.haste(i + 1);
                b.fill(x, i);
                graph.run(() -> step(b, stowage, x, one, sum));
                float[] got = m.floats(sum), expected = new float[N];
                java.util.Arrays.fill(expected, expected(i));
                if (!java.util.Arrays.equals(expected, got)) wrong++;
            }
            assertEquals(eager, !graph.captured());
        }
        StandIn.haste(0);
        for (Tensor t : new Tensor[] {x, one, sum}) m.free(t.address);
        return wrong;
    }

    @Test
    void whatWasStowedComesBack() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            for (boolean eager : new boolean[] {true, false}) assertEquals(0, wrong(b, b.device(), eager), eager ? "eager" : "captured");
            StandIn.checkGuards();
        }
    }

    /** Eager, some order of the lanes shows it. Capturing, the fork or the join is missing, and the driver says so. */
    @ParameterizedTest
    @EnumSource(Lane.class)
    void aForgottenWaitShows(Lane forgotten) {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Device without = ShuttleTest.without(b.device(), forgotten);
            int wrong = wrong(b, without, true);
            System.err.printf("stowage without the waits of the %s lane: wrong in %d of %d steps%n", forgotten, wrong, STEPS);
            assertTrue(wrong > 0, "no step shows that the " + forgotten + " lane does not wait");
            Fail f = assertThrows(Fail.class, () -> wrong(b, without, false));
            assertTrue(f.getMessage().contains("CAPTURE"), f.getMessage());
        }
    }

    @Test
    void whatWasNeverSentCannotBeFetched() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.FP32); Stowage s = b.memory().stowage("stowed", 12L * N, 4L * N)) {
            Tensor first = s.put("first", DType.F32, N), second = s.put("second", DType.F32, N);
            s.send(second);
            s.put("third", DType.F32, N);
            Fail late = assertThrows(Fail.class, () -> s.send(first)), lost = assertThrows(Fail.class, () -> s.fetch(first));
            assertTrue(late.getMessage().contains("first F32[300] was overwritten before it was sent"), late.getMessage());
            assertTrue(lost.getMessage().contains("was overwritten and never sent"), lost.getMessage());
            Fail large = assertThrows(Fail.class, () -> s.put("large", DType.F32, N + 1));
            assertTrue(large.getMessage().contains("does not fit into a berth of 1,200 bytes"), large.getMessage());
        }
    }
}
