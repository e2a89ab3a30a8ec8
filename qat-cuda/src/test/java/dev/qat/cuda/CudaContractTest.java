package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;

import dev.qat.ops.Backend;
import dev.qat.ops.Contracts;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.TestFactory;

/** The CUDA backend keeps the op contract in every order of threads, and no op allocates, waits, or moves anything to or from the host. */
class CudaContractTest {
    private static final Set<String> NOT_OPS = Set.of("name", "memory", "operand", "sync", "close", "repeated", "toString", "hashCode", "equals");
    private static final Map<Precision, Backend> OPEN = new EnumMap<>(Precision.class);

    @TestFactory
    Stream<DynamicNode> everyOpInEveryOrderOfThreads() {
        return Stream.of(run(Precision.FP32, 1), run(Precision.BF16, 2), run(Precision.BF16, 3));
    }

    private static DynamicNode run(Precision precision, long seed) {
        String name = "cuda, %s products, thread order %d".formatted(precision, seed);
        return dynamicContainer(name, Contracts.rows(name, () -> backend(precision), precision == Precision.BF16, () -> order(seed)));
    }

    private static Backend backend(Precision precision) {
        return OPEN.computeIfAbsent(precision, p -> watched(new CudaBackend(StandIn.open(), p)));
    }

    /** The backend, with the stand-in's counters read around every op. */
    private static Backend watched(CudaBackend behind) {
        if (!StandIn.standing()) return behind;
        return (Backend) Proxy.newProxyInstance(Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, (_, op, args) -> {
            List<Long> before = calm();
            try {
                return op.invoke(behind, args);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            } finally {
                if (!NOT_OPS.contains(op.getName())) assertEquals(before, calm(),
                        op.getName() + " changed [allocs, frees, syncs, uploads, downloads]");
            }
        });
    }

    /** The counters that no op may move. */
    private static List<Long> calm() {
        StandIn.Counters c = StandIn.counters();
        return List.of(c.allocs(), c.frees(), c.syncs(), c.uploads(), c.downloads());
    }

    private static void order(long seed) {
        if (StandIn.standing()) StandIn.seed(seed);
    }

    @AfterAll
    static void close() {
        OPEN.values().forEach(Backend::close);
        if (StandIn.standing()) StandIn.checkGuards();
    }
}
