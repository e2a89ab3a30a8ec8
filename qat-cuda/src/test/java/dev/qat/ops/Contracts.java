package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicNode;

/** The op contract for backends that other packages open. */
public final class Contracts {
    /**
     * What ops that round in their middle to BF16 may be off by, per root of a sum's length. Attention rounds q and k: on the
     * row's scores of ±50 that alone moves a probability by some percent, against an lse that was computed without rounding.
     */
    private static final double BF16 = 2e-2;

    /** Only the rows whose name matches, as in {@code -Dqat.rows='snap.*'}; all where it is not given. */
    private static final String ROWS = System.getProperty("qat.rows", ".*");

    private Contracts() {}

    /** One test per row; {@code before} runs ahead of each. */
    public static Stream<DynamicNode> rows(String name, Supplier<Backend> backend, boolean bf16, Runnable before) {
        Candidate fp32 = Candidate.fp32(name, backend), candidate = bf16 ? new Candidate(name, backend, fp32.plain(), BF16) : fp32;
        return OpTable.rows().stream().filter(row -> row.toString().matches(ROWS)).map(row -> dynamicTest(row.toString(), () -> {
            before.run();
            assertTrue(new OpContract(candidate, backend.get()).check(row) > 0, row + " checked nothing");
        }));
    }
}
