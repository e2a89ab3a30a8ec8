package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.train.Part;
import dev.qat.train.Recipe;
import dev.qat.train.Stage;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Stages that calibrate, merge and train transforms, on CUDA (the stand-in, or a device where there is one) as on the CPU. */
final class CudaMethodsTest {
    private static final Recipe.Data DATA = new Recipe.Data(List.of(), List.of(), 0, 12, 0, 16, 1, 0, 0);

    @TempDir
    Path temp;

    private static List<Stage> stages(String name) {
        return switch (name) {
            case "teq, gptq" -> List.of(new Teq(3, 12, 4, 2, 1e-2, 0.05, Teq.Loss.CROSS_ENTROPY, true, true, false, Part.ALL, false, false),
                    new Gptq(3, 12, 0.01, true, true, false, 4, Part.ALL, 0));
            case "teq by block" -> List.of(new Teq(3, 12, 3, 2, 1e-2, 0.05, Teq.Loss.BLOCK, false, true, false, Part.ALL, false, false), new Rtn(3, 12));
            // without the clip: a group clipped on both sides has its ends between two codes, and the last bit of a float decides
            case "awq" -> List.of(new Awq(3, 12, false, 4, Part.ALL));
            case "kv-balance" -> List.of(new KvBalance(4, 16, 4, Part.ALL), new MinMaxRounding("32-32-4", -1, false, true));
            case "smoothquant" -> List.of(new SmoothQuant(0.5, 4, Part.ALL), new MinMaxRounding("4-8-4", -1, false, false));
            case "spinquant" -> List.of(new SpinQuant("4-8-8", true, 3, 2, 0.1, dev.qat.train.EndToEnd.Loss.CROSS_ENTROPY, Part.ALL, false, false), new StaticRounding("4-8-8", 3, 4, Part.ALL));
            case "turned" -> List.of(new FptLocal(4, 10, 0.01, true, true, false), new FptQuant("4-8-8", 3, 3, 2, 1e-3, 0.05, true, true, true, 0.05, 0, Part.ALL, false, false));
            default -> List.of(new FptLocal(4, 10, 0.01, true, false, false), new FptQuant("4-8-4", 3, 4, 2, 1e-3, 0.05, true, true, true, 0, 0, Part.ALL, false, false));
        };
    }

    @ParameterizedTest
    @ValueSource(strings = {"teq, gptq", "teq by block", "awq", "smoothquant", "kv-balance", "fptquant", "spinquant", "turned"})
    void theSameTableOnCudaAsOnTheCpu(String name) {
        List<Row> cpu, fp32, bf16;
        Path model;
        try (Backend be = new CpuBackend(1)) {
            model = Loud.write(temp, be, Tiny.LLAMA_BIASED, 4);
            cpu = Loud.run(temp, be, model, stages(name), DATA, 4);
        }
        try (Backend be = new CudaBackend(StandIn.open(), Precision.FP32)) {
            fp32 = Loud.run(temp, be, model, stages(name), DATA, 4);
        }
        try (Backend be = new CudaBackend(StandIn.open(), Precision.BF16)) {
            bf16 = Loud.run(temp, be, model, stages(name), DATA, 4);
        }
        for (int i = 0; i < cpu.size(); i++) {
            double expected = cpu.get(i).perplexity();
            assertEquals(expected, fp32.get(i).perplexity(), 1e-3 * expected, "fp32, " + cpu.get(i).name());
            assertTrue(Math.abs(Math.log(bf16.get(i).perplexity() / expected)) < 0.2, "bf16, " + cpu.get(i).name() + ": " + bf16.get(i).perplexity() + " for " + expected);
        }
    }
}
