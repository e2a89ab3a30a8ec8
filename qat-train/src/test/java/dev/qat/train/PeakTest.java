package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The product that "peak" is measured with is one in the type products read, of numbers that are numbers. */
final class PeakTest {
    @Test
    void theMedianCountsNotTheMean() {
        assertEquals(2.0 * 2048 * 2048 * 2048 / 0.5, Peak.of(new double[] {9, 0.5, 0.1}), 1);
    }

    /** A device whose products read BF16 is not to be measured with fp32 operands, which it would refuse or run at another speed. */
    @Test
    void operandsHaveTheTypeThatProductsRead() {
        List<DType> read = new ArrayList<>(), copied = new ArrayList<>();
        try (Backend cpu = new CpuBackend(1)) {
            Backend narrow = (Backend) Proxy.newProxyInstance(Backend.class.getClassLoader(), new Class<?>[] {Backend.class}, (_, op, args) -> switch (op.getName()) {
                case "operand" -> DType.BF16;
                case "copy" -> {
                    copied.add(((Tensor) args[0]).type);
                    yield null;
                }
                case "linear" -> {
                    read.add(((Tensor) args[1]).type);
                    read.add(((Tensor) args[2]).type);
                    yield null;
                }
                default -> op.invoke(cpu, args);
            });
            int before = cpu.memory().slabs().size();
            assertTrue(Peak.measure(narrow) > 0);
            assertEquals(before, cpu.memory().slabs().size(), "memory that was not given back");
        }
        assertEquals(List.of(DType.BF16, DType.BF16), copied);
        assertTrue(!read.isEmpty() && read.stream().allMatch(t -> t == DType.BF16), read.toString());
    }
}
