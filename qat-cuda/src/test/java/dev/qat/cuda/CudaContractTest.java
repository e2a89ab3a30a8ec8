package dev.qat.cuda;

import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;

import dev.qat.ops.Contracts;
import java.util.EnumMap;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.TestFactory;

/** The CUDA backend keeps the op contract in every precision, whatever the order in which threads run. */
class CudaContractTest {
    private static final Map<Precision, CudaBackend> OPEN = new EnumMap<>(Precision.class);

    @TestFactory
    Stream<DynamicNode> everyOpInEveryOrderOfThreads() {
        return Stream.of(run(Precision.FP32, 1), run(Precision.BF16, 2), run(Precision.BF16, 3));
    }

    private static DynamicNode run(Precision precision, long seed) {
        String name = "cuda, %s products, thread order %d".formatted(precision, seed);
        return dynamicContainer(name, Contracts.rows(name, () -> backend(precision), precision == Precision.BF16, () -> order(seed)));
    }

    private static CudaBackend backend(Precision precision) {
        return OPEN.computeIfAbsent(precision, p -> new CudaBackend(StandIn.open(), p));
    }

    private static void order(long seed) {
        if (StandIn.standing()) StandIn.seed(seed);
    }

    @AfterAll
    static void close() {
        OPEN.values().forEach(CudaBackend::close);
        if (StandIn.standing()) StandIn.checkGuards();
    }
}
