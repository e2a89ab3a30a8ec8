package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.model.Shared;
import dev.qat.ops.Backend;
import dev.qat.train.Part;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Stage;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the calibrated methods reach on a real model of 3 M parameters, stories3M at 3 bits in groups of 64. */
final class RealModelMethodsTest {
    @TempDir
    Path temp;

    private List<Row> run(Backend be, Stage... stages) {
        Path text = Shared.asset("text/tinystories_head.txt");
        Recipe d = Recipe.DEFAULTS;
        Recipe r = new Recipe("run", new Recipe.Source(Shared.asset("stories3M"), Recipe.Init.LOAD), "cpu", Precision.FP32, false, 1, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(text), List.of(), 160027, 128, 48, 0, 1, 0, 0), new Recipe.Eval(List.of(text), 160027, 256, 8, 8), d.save(),
                new Recipe.Checkpoint(0, 0, 0, Recipe.Resume.NEVER), d.recovery(), new Recipe.Observe(false, 0, ""), d.target(), List.of(stages));
        return Runner.run(r, "name: run\n", Map.of("qat", "test"), be, Watch.NOBODY).rows();
    }

    /** Every stage that transforms, one after the other on what the last one left: none changes what the model says, the last after bake neither. */
    @Test
    void transformsLeaveARealModelAsItIs() {
        try (Backend be = new CpuBackend(2)) {
            List<Row> rows = run(be, new SmoothQuant(0.5, 8, Part.ALL), new Teq(4, 64, 3, 2, 1e-2, 0.05, Teq.Loss.DISTILL, true, true, false, Part.ALL, true, false),
                    new FptLocal(4, 10, 0.01, true, true, false), new Teq(4, 64, 3, 2, 1e-2, 0.05, Teq.Loss.CROSS_ENTROPY, false, true, false, Part.ALL, true, false));
            assertEquals(5, rows.size());
            for (Row r : rows) {
                assertEquals(0, r.kl(), 1e-6, r.name());
                assertEquals(rows.getFirst().perplexity(), r.perplexity(), 1e-5 * rows.getFirst().perplexity(), r.name());
            }
            List<Row> spin = run(be, new SpinQuant("4-8-8", true, 2, 2, 0.5, dev.qat.train.EndToEnd.Loss.CROSS_ENTROPY, Part.ALL, true, false));
            assertEquals(0, spin.getLast().kl(), 1e-6, "learned rotations, merged, and those that stay");
        }
    }

    @Test
    void calibrationBringsThreeBitsNearer() {
        try (Backend be = new CpuBackend(2)) {
            List<Row> rows = new ArrayList<>(run(be, new Rtn(3, 64), new Gptq(3, 64, 0.01, true, true, false, 8, Part.ALL, 0), new Awq(3, 64, true, 8, Part.ALL)));
            rows.addAll(run(be, new Teq(3, 64, 60, 2, 2e-3, 0.05, Teq.Loss.CROSS_ENTROPY, false, true, false, Part.ALL, true, false), new Rtn(3, 64)));
            for (Row r : rows) System.out.printf("stories3M, W3g64, %s: perplexity %.3f, KL %.4f%n", r.name(), r.perplexity(), r.kl());
            double rtn = rows.get(1).kl(), gptq = rows.get(2).kl(), awq = rows.get(3).kl(), teq = rows.get(6).kl();
            assertTrue(gptq < 0.8 * rtn, "gptq: KL " + gptq + " against " + rtn);
            assertTrue(awq < rtn, "awq: KL " + awq + " against " + rtn);
            assertEquals(0, rows.get(5).kl(), 1e-5, "teq merged computes what it did");
            assertTrue(teq < rtn, "teq and rounding: KL " + teq + " against " + rtn);
        }
    }
}
