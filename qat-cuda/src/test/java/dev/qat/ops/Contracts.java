package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicNode;

/** The op contract for backends that other packages open. */
public final class Contracts {
    private Contracts() {}

    /** One test per row; {@code before} runs ahead of each. Products of {@code bf16} backends are held to what BF16 allows. */
    public static Stream<DynamicNode> rows(String name, Supplier<Backend> backend, boolean bf16, Runnable before) {
        Candidate candidate = bf16 ? Candidate.bf16(name, backend) : Candidate.fp32(name, backend);
        return OpTable.rows().stream().map(row -> dynamicTest(row.toString(), () -> {
            before.run();
            assertTrue(new OpContract(candidate, backend.get()).check(row) > 0, row + " checked nothing");
        }));
    }
}
