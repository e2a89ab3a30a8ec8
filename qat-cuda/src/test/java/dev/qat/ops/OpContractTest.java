package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Every op of every backend does what the reference does, on awkward sizes and values, and touches nothing else. */
class OpContractTest {
    private static final Set<String> NOT_OPS = Set.of("name", "memory", "operand", "sync", "close", "repeated");
    private static final Map<Candidate, Backend> OPEN = new HashMap<>();

    @TestFactory
    Stream<DynamicNode> everyBackendKeepsTheContract() {
        return Candidate.all().stream().map(candidate -> dynamicContainer(candidate.name(), OpTable.rows().stream().map(row ->
                dynamicTest(row.toString(), () -> {
                    int checks = new OpContract(candidate, OPEN.computeIfAbsent(candidate, c -> c.make().get())).check(row);
                    assertTrue(checks > 0, row + " checked nothing");
                }))));
    }

    @AfterAll
    static void close() {
        OPEN.values().forEach(Backend::close);
    }

    @Test
    void everyOpOfTheBackendHasARow() {
        Set<String> ops = Arrays.stream(Backend.class.getDeclaredMethods()).filter(m -> !m.isSynthetic()).map(Method::getName)
                .filter(op -> !NOT_OPS.contains(op)).collect(Collectors.toCollection(TreeSet::new));
        Set<String> rows = OpTable.rows().stream().map(r -> r.op).collect(Collectors.toCollection(TreeSet::new));
        assertEquals(ops, rows, "ops of Backend, and rows of OpTable");
    }

    @Test
    void everyGradientHasAProof() {
        for (Row row : OpTable.rows()) {
            boolean gives = !row.generic(row.sizes.getFirst()).all(Arg.Slope.class).isEmpty();
            assertEquals(gives, row.proof != null, row + " gives gradients, and names their proof");
        }
    }
}
