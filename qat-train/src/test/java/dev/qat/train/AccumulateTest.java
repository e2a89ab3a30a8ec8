package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.method.E2eQp;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.watch.Watch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A batch in parts is the batch: the same windows, the same steps but for the order of sums, the memory of one part. */
final class AccumulateTest {
    private static final int BATCH = 4, STEPS = 10; // 20 windows, 2 epochs

    @TempDir
    Path temp;

    private record Outcome(List<Double> losses, List<Double> norms) {}

    private Outcome run(String name, Backend backend, int parts, boolean stow) throws Exception {
        return run(name, backend, parts, stow, EndToEnd.Loss.DISTILL);
    }

    private Outcome run(String name, Backend backend, int parts, boolean stow, EndToEnd.Loss loss) throws Exception {
        Path model = Files.exists(temp.resolve("model")) ? temp.resolve("model") : TinyModels.write(temp.resolve("model"), backend, 7);
        Recipe r = new Recipe(name, new Recipe.Source(model, Recipe.Init.LOAD), backend.name(), Precision.FP32, false, 2, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, 16, 0, 20, 0, 1, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "",
                List.of(new Rtn(2, 32), new E2eQp(2, BATCH, 1e-3, 0.3, 0, loss, 0, Part.ALL, true, stow, stow, parts, stow)));
        Runner.Result result = Runner.run(r, "", Map.of(), backend, Watch.NOBODY);
        Outcome o = new Outcome(new ArrayList<>(), new ArrayList<>());
        for (String line : Files.readAllLines(result.directory().resolve("metrics.jsonl"))) {
            o.losses.add(new ObjectMapper().readTree(line).get("train/loss").asDouble());
            o.norms.add(new ObjectMapper().readTree(line).get("train/grad_norm").asDouble());
        }
        assertEquals(STEPS, o.losses.size());
        return o;
    }

    private static void same(Outcome a, Outcome b, double tolerance, String what) {
        for (int i = 0; i < STEPS; i++) {
            assertEquals(a.losses.get(i), b.losses.get(i), tolerance * a.losses.get(i), what + ": loss of step " + i);
            assertEquals(a.norms.get(i), b.norms.get(i), 20 * tolerance * a.norms.get(i), what + ": gradient norm of step " + i);
        }
        assertTrue(b.losses.getLast() < b.losses.getFirst(), what + " did not learn");
    }

    @Test
    void partsAreTheBatchOnTheCpu() throws Exception {
        try (Backend cpu = new CpuBackend(1)) {
            Outcome whole = run("whole", cpu, 1, false);
            for (int parts : List.of(2, 4)) same(whole, run("in " + parts, cpu, parts, false), 1e-5, parts + " parts");
            assertEquals(run("whole again", cpu, 1, true), whole, "what blocks start again from, on the host or not");
        }
    }

    /** One graph for every part and one for the update. */
    @Test
    void partsAreTheBatchOnCuda() throws Exception {
        try (Backend cpu = new CpuBackend(1)) {
            Outcome whole = run("cpu", cpu, 1, false, EndToEnd.Loss.CROSS_ENTROPY);
            try (Backend cuda = new CudaBackend(StandIn.open(), Precision.FP32)) {
                same(whole, run("cuda in 4", cuda, 4, true, EndToEnd.Loss.CROSS_ENTROPY), 1e-4, "4 parts on CUDA, stowed");
            }
            if (StandIn.standing()) {
                long graphs = StandIn.counters().graphLaunches();
                assertTrue(graphs >= 4 * STEPS - 2 + STEPS - 2, graphs + " launches of graphs");
            }
        }
    }

    @Test
    void partsMustBeEqual() {
        Fail f = assertThrows(Fail.class, () -> new E2eQp(1, 8, 0, 0, 0, EndToEnd.Loss.DISTILL, 0, Part.ALL, false, false, false, 3, false));
        assertTrue(f.getMessage().contains("accumulate = 3, expected a divisor of batch = 8"), f.getMessage());
    }
}
