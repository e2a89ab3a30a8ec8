package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.data.Safetensors;
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQp;
import dev.qat.method.Course;
import dev.qat.method.Trained;
import dev.qat.method.Dlt;
import dev.qat.method.Original;
import dev.qat.method.Rtn;
import dev.qat.method.Sherry;
import dev.qat.method.Tequila;
import dev.qat.ops.Backend;
import dev.qat.watch.Watch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** One recipe on the CPU and on CUDA (the stand-in, or a device where there is one): the same run, step by step. */
final class CudaRunTest {
    @TempDir
    Path temp;

    private static final List<Stage> PHASES = List.of(new Rtn(2, 32), new BlockAp(2, 32, 2, 2, 3e-4, 3e-4, 0.05, Part.ALL, true),
            new E2eQp(10, 10, 1e-4, 0.3, 0, EndToEnd.Loss.DISTILL, 0, Part.ALL, true, false, false));

    private record Outcome(List<JsonNode> steps, Runner.Result result) {}

    private Outcome run(String name, Backend backend, List<Stage> stages) throws Exception {
        Path model = Files.exists(temp.resolve("model")) ? temp.resolve("model") : TinyModels.write(temp.resolve("model"), backend, 7);
        Recipe r = new Recipe(name, new Recipe.Source(model, Recipe.Init.LOAD), "cuda", Precision.FP32, false, 2, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, 16, 0, 20, 0, 1, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "",
                stages);
        Runner.Result result = Runner.run(r, "", Map.of(), backend, Watch.NOBODY);
        List<JsonNode> steps = new ArrayList<>();
        for (String line : Files.readAllLines(result.directory().resolve("metrics.jsonl"))) steps.add(new ObjectMapper().readTree(line));
        return new Outcome(steps, result);
    }

    @Test
    void theSameRecipeTakesTheSameStepsOnCudaAsOnTheCpu() throws Exception {
        same(PHASES, 60, 1e-4); // 20 steps for each of 2 blocks, 20 end to end
    }

    /** A residual that moves from step to step, learned scales, and biases, all inside recorded graphs. */
    @Test
    void ternaryWeightsTakeTheSameSteps() throws Exception {
        Course course = new Course(4, 10, 3e-4, 0, new Schedule(Schedule.Shape.WSD, 0.2, 0), 1, EndToEnd.Loss.DISTILL, 0, Part.ALL, Trained.ALL, true, false);
        same(List.of(new Sherry(32, 1, 0.3, 0, course), new Original(), new Dlt(16, 0, course), new Original(),
                new Tequila(Tequila.Rule.LEARNED, 32, 1e-2, Tequila.Epsilon.ROW, false, 0, course), new Original(),
                new Tequila(Tequila.Rule.ABSMEAN, -1, 1e-3, Tequila.Epsilon.FIXED, true, 8, course)), 32, 2e-3); // a weight on an edge may fall on either side
    }

    private void same(List<Stage> stages, int steps, double tolerance) throws Exception {
        Outcome cpu, cuda;
        try (Backend b = new CpuBackend(2)) {
            cpu = run("cpu", b, stages);
        }
        try (Backend b = new CudaBackend(StandIn.open(), Precision.FP32)) {
            if (StandIn.standing()) StandIn.haste(2); // copies run ahead of the steps, or behind them
            cuda = run("cuda", b, stages);
        }
        assertEquals(steps, cpu.steps.size());
        assertEquals(cpu.steps.size(), cuda.steps.size());
        for (int i = 0; i < cpu.steps.size(); i++) {
            double a = cpu.steps.get(i).get("train/loss").asDouble(), b = cuda.steps.get(i).get("train/loss").asDouble();
            assertEquals(a, b, tolerance * a, "loss of " + cpu.steps.get(i));
        }
        double equal = equalCodes(cpu.result, cuda.result);
        System.out.printf("CudaRunTest: %.5f of the codes agree after %d steps%n", equal, steps);
        assertTrue(equal >= 0.999, "codes that agree: " + equal);
    }

    /** Share of all codes that are the same in both runs. */
    private static double equalCodes(Runner.Result a, Runner.Result b) {
        try (Safetensors x = Safetensors.open(a.directory().resolve("model/packed.safetensors"));
             Safetensors y = Safetensors.open(b.directory().resolve("model/packed.safetensors"))) {
            long same = 0, all = 0;
            for (String name : x.names().stream().filter(n -> n.endsWith(".codes")).collect(Collectors.toList())) {
                byte[] p = x.bytes(name).toArray(java.lang.foreign.ValueLayout.JAVA_BYTE), q = y.bytes(name).toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
                for (int i = 0; i < p.length; i++) {
                    for (int k = 0; k < 8; k += 2) if ((p[i] >> k & 3) == (q[i] >> k & 3)) same++;
                    all += 4;
                }
            }
            return (double) same / all;
        }
    }
}
