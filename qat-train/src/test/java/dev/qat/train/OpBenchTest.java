package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.ops.Backend;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** What scripts/gpu-check measures on a device runs, op by op, without one. */
final class OpBenchTest {
    private static final OpBench.Shape SMALL = new OpBench.Shape(40, 64, 96, 2, 70, 32, 1);

    private static void measured(Backend backend) {
        OpBench.run(backend, SMALL); // a backend keeps what it needs from the first time on
        int before = backend.memory().slabs().size();
        List<OpBench.Row> rows = OpBench.run(backend, SMALL);
        assertEquals(before, backend.memory().slabs().size(), "memory that was not given back");
        for (OpBench.Row r : rows) {
            assertTrue(r.ms() > 0 && r.share() > 0 && r.gigabytesPerSecond() > 0, r.toString());
            if (r.op().equals("linear") || r.op().equals("copy")) assertTrue(r.share() >= 0.999, r.toString());
        }
    }

    @Test
    void everyOpIsMeasuredOnTheCpu() {
        try (Backend cpu = new CpuBackend(1)) {
            measured(cpu);
        }
    }

    @Test
    void everyOpIsMeasuredOnCuda() {
        for (Precision p : List.of(Precision.FP32, Precision.BF16)) {
            try (Backend cuda = new CudaBackend(StandIn.open(), p)) {
                measured(cuda);
            }
        }
    }

    /** An op of the backend has a row, or is named as one that another stands for. */
    @Test
    void noOpIsForgotten() {
        Set<String> plumbing = Set.of("name", "memory", "operand", "sync", "close", "repeated"), all = Arrays.stream(Backend.class.getMethods())
                .map(Method::getName).filter(n -> !plumbing.contains(n)).collect(Collectors.toCollection(TreeSet::new)), known = new TreeSet<>(OpBench.LEFT_OUT);
        try (Backend cpu = new CpuBackend(1)) {
            known.addAll(OpBench.ops(cpu, SMALL));
        }
        assertEquals(all, known);
    }
}
