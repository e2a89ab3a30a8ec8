package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.export.LlamaProducts;
import dev.qat.tensor.Fail;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** The benchmark of decoding runs, ours and llama.cpp's: speeds are for a quiet machine to say. */
final class DecodeBenchTest {
    @Test
    void everyStorageHasATurn() {
        try (CpuBackend be = new CpuBackend(1); LlamaProducts llama = llama()) {
            List<DecodeBench.Row> rows = DecodeBench.run(be, new DecodeBench.Shape(256, 2, 64, 3), llama);
            assertEquals(List.of("fp32", "bf16", "trits", "llama.cpp f16", "llama.cpp bf16", "llama.cpp tq2_0"), rows.stream().map(DecodeBench.Row::storage).toList());
            for (DecodeBench.Row r : rows) assertTrue(r.seconds() > 0 && r.seconds() < 1, r.toString());
            assertEquals(256 * 256 * 2 * 66 / 256.0, rows.getLast().bytes());
        }
    }

    private static LlamaProducts llama() {
        try {
            return new LlamaProducts();
        } catch (Fail e) {
            Assumptions.abort("llama.cpp does not run here: " + e.getMessage());
            return null;
        }
    }
}
