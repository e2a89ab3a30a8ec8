package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Model;
import dev.qat.model.Probe;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.tensor.Fail;
import dev.qat.train.Part;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Static ranges by p-norm search, their training together with scales, and that what is frozen is what was trained. */
final class FptQuantTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};

    @TempDir
    Path temp;

    /** 20 × 0.55, 20 × 0.35, 20 × (−0.45) and one 2.0, in 4 bits. */
    @ParameterizedTest
    @CsvSource({"1, 0.78, 1.762857", "2, 1.86, 0.301192", "3, 1.86, 0.0256460", "4, 1.88, 0.00224055"})
    void theRangeWithTheLeastError(double p, double c, double error) {
        float[] x = new float[61];
        for (int i = 0; i < 60; i++) x[i] = i < 20 ? 0.55f : i < 40 ? 0.35f : -0.45f;
        x[60] = 2;
        double found = StaticRange.threshold(x, 0, 61, 4, p);
        assertEquals(c, found, 1e-6);
        assertEquals(error, StaticRange.error(x, 0, 61, 4, p, found), 1e-5 * error + 1e-7);
    }

    private Path model(Backend be) {
        return Loud.write(temp, be, Tiny.LLAMA_BIASED, 6);
    }

    private List<Row> run(Backend be, Path model, Stage stage) {
        return Loud.run(temp, be, model, List.of(stage));
    }

    private static FptQuant stage(int steps, double rate, boolean scales) {
        return new FptQuant("4-6-6", 3, steps, 8, rate, 0.05, scales, scales, scales, 0, 0, Part.ALL, true, false);
    }

    @Test
    void trainingBringsItNearerAndScalesBringItNearerStill() {
        try (Backend be = new CpuBackend(1)) {
            Path model = model(be);
            double start = run(be, model, stage(1, 1e-9, true)).getLast().kl(), ranges = run(be, model, stage(60, 2e-2, false)).getLast().kl();
            double both = run(be, model, stage(60, 2e-2, true)).getLast().kl();
            System.out.printf("static 4-6-6: KL %.4f as the search finds it, %.4f with ranges trained, %.4f with scales as well%n", start, ranges, both);
            assertTrue(ranges < start, "ranges: " + ranges + " from " + start);
            assertTrue(both < ranges, "scales too: " + both + " from " + ranges);
        }
    }

    /** Every transform at once, somewhere: what merging and freezing leave is what was computed through the sites. */
    @ParameterizedTest
    @ValueSource(strings = {"biased", "qwen3"})
    void whatIsFrozenIsWhatWasTrained(String config) {
        FptQuant stage = new FptQuant("4-16-16", 3, 1, 8, 1e-3, 0, true, true, true, 0.1, 0, Part.ALL, true, false);
        Loud.look(temp, Tiny.named(config), run -> {
            FptQuant.Parts parts = stage.prepare(run);
            int key = 0;
            for (FptQuant.Scaled s : parts.scaled()) {
                float[] tau = new float[s.pair().scales()];
                for (int i = 0; i < tau.length; i++) tau[i] = (float) (0.3 * Philox.normal(6, i, key, 0));
                run.backend().memory().set(s.tau().value(), tau);
                key++;
            }
            HeadTransformsTest.randomize(run, parts.heads(), 0.2);
            float[] trained = new Probe(run.backend(), run.student()).logits(IDS);
            stage.freeze(run, parts);
            float[] frozen = new Probe(run.backend(), run.student()).logits(IDS);
            assertEquals(7 * run.student().blocks().size(), run.packed().size());
            // a value that lies on the edge between two codes may fall to the other side
            assertEquals(0, Probe.off(frozen, trained), 2e-2);
        });
    }

    /** Merged and baked, no transform is left but those that cannot be: T_d and S_n; and the quantizers, until they are taken out. */
    @Test
    void onlyWhatCannotBeMergedIsLeft() {
        Loud.look(temp, Tiny.LLAMA, run -> {
            Model m = run.student();
            Map<String, Long> before = Probe.calls(run.backend(), m, IDS.length);
            new FptLocal(4, 3, 0.01, true, true, true).run(run);
            new FptQuant("4-8-8", 3, 2, 8, 1e-2, 0, true, true, true, 0.1, 0, Part.ALL, true, false).run(run);
            run.reset();
            run.bake();
            Map<String, Long> after = Probe.calls(run.backend(), m, IDS.length);
            assertEquals(m.blocks().size(), after.remove("hadamard"));
            assertEquals(4 * m.blocks().size(), after.remove("rmsScale"));
            assertEquals(before, after);
        });
    }

    /** What is merged is a start like any other: LLM-QAT trains on from it, and ends nearer than what it was given. */
    @Test
    void llmQatGoesOnFromIt() {
        try (Backend be = new CpuBackend(1)) {
            Path model = model(be);
            List<Row> rows = Loud.run(temp, be, model, List.of(new FptLocal(4, 20, 0.01, true, true, false), stage(30, 2e-2, true),
                    new FptQuant("4-6-6", 3, 60, 8, 5e-3, 0.05, false, false, false, 0, 1e-3, Part.ALL, true, false), new LlmQat("4-6-6", -1, false, false, false, Trained.ALL, 3, 8, 1e-3, 0, 0, 0.999, 1, Schedule.DEFAULTS, LlmQat.Distance.KL, 0, 0, 1, Part.ALL, true, false, 0)));
            System.out.printf("fpt-local, fptquant: KL %.4f, all weights under the same quantizers: %.4f, llm-qat by the token: %.4f%n", rows.get(2).kl(), rows.get(3).kl(), rows.get(4).kl());
            assertTrue(rows.get(3).kl() < rows.get(2).kl(), rows.toString());
            assertTrue(rows.get(4).kl() < rows.get(2).kl(), rows.toString());
        }
    }

    @Test
    void widthsThatItCannotTrainAreRefused() {
        Fail f = assertThrows(Fail.class, () -> new FptQuant("16-8-8", 3, 1, 1, 1e-3, 0, true, true, true, 0, 0, Part.ALL, true, false));
        assertEquals(Fail.USAGE, f.code());
        assertArrayEquals(new float[] {1e-4f}, new float[] {StaticRange.step(new float[4], 0, 4, 4, 2)});
    }
}
