package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQp;
import dev.qat.method.FullPrecision;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a plan says a run will need of a device's memory is what the run then takes, to the byte. */
final class PlanBytesTest {
    @TempDir
    Path temp;

    private void same(Precision precision, int length, Stage... stages) {
        Path model;
        try (Backend cpu = new CpuBackend(1)) {
            model = TinyModels.write(temp.resolve("model"), cpu, 7);
        }
        Recipe r = new Recipe("planned", new Recipe.Source(model, Recipe.Init.LOAD), "cuda", precision, false, 1, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, length, 0, 4, 0, 1, 0), new Recipe.Eval(List.of(), 0, 16, 2, 1), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", List.of(stages));
        DType operand = precision == Precision.BF16 ? DType.BF16 : DType.F32;
        long planned = Planner.plan(r, operand, CudaBackend.HELD).peakBytes();
        try (Backend cuda = new CudaBackend(StandIn.open(), precision)) {
            Runner.run(r, "", Map.of(), cuda, Watch.NOBODY);
            assertEquals(planned, StandIn.counters().peakBytes(), "bytes at the peak");
        }
    }

    @Test
    void bothPhasesOfEfficientQatInFp32() {
        same(Precision.FP32, 16, new Rtn(2, 32), new BlockAp(2, 32, 2, 2, 3e-4, 3e-4, 0.05, Part.ALL, true),
                new E2eQp(1, 2, 1e-4, 0.3, 0, EndToEnd.Loss.DISTILL, 0, Part.ALL, true, false, false));
    }

    @Test
    void recomputedBlocksAndMomentsOnTheHostInBf16() {
        same(Precision.BF16, 32, new BlockAp(3, 32, 1, 2, 3e-4, 3e-4, 0.05, Part.ALL, false), new E2eQp(2, 2, 1e-4, 0.3, 0, EndToEnd.Loss.CROSS_ENTROPY, 0, Part.ALL, true, true, true));
    }

    @Test
    void aBatchInPartsWithBlocksThatStartAgainFromTheHost() {
        same(Precision.BF16, 32, new Rtn(3, 32), new E2eQp(2, 4, 1e-4, 0.3, 0, EndToEnd.Loss.CROSS_ENTROPY, 0, Part.ALL, true, true, true, 2, true));
    }

    @Test
    void allWeightsInBf16() {
        FullPrecision d = FullPrecision.DEFAULTS;
        same(Precision.BF16, 48, new FullPrecision(3, 4, d.rate(), d.decay(), d.maxNorm(), d.schedule(), d.beta2(), true));
    }
}
