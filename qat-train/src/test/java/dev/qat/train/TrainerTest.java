package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQp;
import dev.qat.method.Rtn;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.watch.Watch;
import dev.qat.watch.Witness;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The loop runs a step ahead of what it has seen: the device never waits for it, and a step that breaks is still found where it broke. */
final class TrainerTest {
    private static final int N = 5, STEPS = 12, BREAKS = 7;

    @TempDir
    Path temp;

    private final List<String> said = new ArrayList<>();
    private final List<StandIn.Counters> counters = new ArrayList<>();
    private int fed;
    private float[] values;

    /** Fits w + x_i to nothing; the batch of step BREAKS is infinite so many times. */
    private final class Toy implements Stage {
        private final int block;
        private int breaks;

        Toy(int block, int breaks) {
            this.block = block;
            this.breaks = breaks;
        }

        @Override
        public boolean judged() {
            return false;
        }

        @Override
        public void run(Run run) {
            Memory m = run.backend().memory();
            Param w = Slab.of(m, "toy", s -> List.of(s.param("model.layers.3.toy", Param.Kind.WEIGHT, N))).getFirst();
            Tensor x = m.tensor("x", N), target = m.tensor("target", N), loss = m.tensor("loss", 1);
            m.set(w.value(), 1f, 2f, 3f, 4f, 5f);
            m.set(target, new float[N]);
            try (AdamW adam = new AdamW(run.backend(), List.of(new AdamW.Group(List.of(w), 0.1, 0)), AdamW.Config.DEFAULTS);
                 Step step = new Step(run.backend(), "toy", true, t -> {
                     Ops.mse(t, loss, Ops.add(t, w.value(), x), target);
                     t.backward();
                     adam.update(t.backend());
                 }); Watch.Job job = run.watch().job("toy", STEPS)) {
                try {
                    new Trainer(run, new Trainer.Name("toy", block), new Schedule(Schedule.Shape.CONSTANT, 0, 0), 0.1, adam).loop(job, 0, STEPS, i -> {
                        fed++;
                        float[] batch = new float[N];
                        Arrays.fill(batch, i == BREAKS && breaks-- > 0 ? Float.POSITIVE_INFINITY : i);
                        m.set(x, batch);
                    }, step, loss, N);
                } finally {
                    values = m.floats(w.value());
                }
            }
        }
    }

    private Path run(String name, Backend backend, Stage... stages) {
        Path model = Files.exists(temp.resolve("model")) ? temp.resolve("model") : TinyModels.write(temp.resolve("model"), backend, 7);
        Recipe r = new Recipe(name, new Recipe.Source(model, Recipe.Init.LOAD), backend.name(), Precision.FP32, false, 1, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, 16, 0, 24, 0, 1, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, new Recipe.Recovery(1, 0.5), Recipe.Observe.DEFAULTS, "", List.of(stages));
        Witness watch = new Witness((title, _) -> {
            if (title.endsWith("-qp") || title.endsWith("-ap")) counters.add(StandIn.counters());
        }, said);
        return Runner.run(r, "", Map.of(), backend, watch).directory();
    }

    /** Of E2E-QP and Block-AP alike: one graph a step, two numbers of it, and one wait behind which the device goes on. */
    @Test
    void theDeviceIsNotHeldUpByWhatIsSeen() {
        StandIn.load();
        try (Backend cuda = new CudaBackend(StandIn.open(), Precision.FP32)) {
            Rtn rtn = new Rtn(2, 32);
            run("end to end", cuda, rtn, new E2eQp(4, 2, 1e-4, 0.3, 0, EndToEnd.Loss.CROSS_ENTROPY, 0, Part.ALL, true, false, false));
            steady(counters, 48, 5, true);
            counters.clear();
            run("block by block", cuda, rtn, new BlockAp(2, 32, 4, 2, 3e-4, 3e-4, 0.05, Part.ALL, true));
            steady(counters.subList(0, 48), 48, 5, false);
        }
    }

    private static void steady(List<StandIn.Counters> seen, int steps, int from, boolean fedByUploads) {
        assertEquals(steps, seen.size());
        int n = steps - 3 - from;
        StandIn.Counters a = seen.get(from), b = seen.get(from + n);
        assertEquals(n, b.graphLaunches() - a.graphLaunches(), "graphs");
        assertEquals(2 * n, b.downloads() - a.downloads(), "numbers that travel to the host");
        assertTrue(b.syncs() - a.syncs() <= n, "waits: " + (b.syncs() - a.syncs()) + " in " + n + " steps");
        assertEquals(0, b.stalls() - a.stalls(), "waits behind which the device had nothing to do");
        assertEquals(List.of(0L, 0L), List.of(b.allocs() - a.allocs(), b.frees() - a.frees()), "allocations");
        if (fedByUploads) assertEquals(List.of(3L * n, 0L, 0L), List.of(b.uploads() - a.uploads(), b.launches() - a.launches(), b.gemms() - a.gemms()),
                "tokens, targets and rates; nothing launched beside the graphs");
    }

    private void breaks(Backend backend, int ahead) throws Exception {
        fed = 0;
        Fail f = assertThrows(Fail.class, () -> run("breaks on " + backend.name(), backend, new Toy(-1, 9)));
        assertTrue(f.getMessage().contains("toy, step " + BREAKS + ": loss = Infinity, gradient norm = Infinity"), f.getMessage());
        assertEquals(BREAKS + 1 + ahead + 1, fed, "batches: to the broken one, beyond it, and that one once more");
        float[] found = values;
        JsonNode report = new ObjectMapper().readTree(temp.resolve("runs/breaks on " + backend.name() + "/failure.json").toFile());
        assertEquals(BREAKS, report.get("step").asInt());
        assertEquals("add", report.get("first").get("op").asText(), report.toString());
        assertEquals("model.layers.3.toy", report.get("first").get("layer").asText(), report.toString());
        assertEquals(0, report.get("broken_values").size());
        assertArrayEquals(weightsBeforeItBreaks(), found, 1e-5f, "as they were before the step that broke");
    }

    /** By the book, in double. */
    private static float[] weightsBeforeItBreaks() {
        float[] w = {1, 2, 3, 4, 5};
        for (int k = 0; k < N; k++) {
            double p = w[k], m = 0, v = 0;
            for (int i = 0; i < BREAKS; i++) {
                double g = 2 * (p + i) / N;
                m = 0.9 * m + 0.1 * g;
                v = 0.999 * v + 0.001 * g * g;
                p -= 0.1 * (m / (1 - Math.pow(0.9, i + 1))) / (Math.sqrt(v / (1 - Math.pow(0.999, i + 1))) + 1e-8);
            }
            w[k] = (float) p;
        }
        return w;
    }

    @Test
    void aStepThatBreaksIsFoundWhereItBroke() throws Exception {
        try (Backend cpu = new CpuBackend(1)) {
            breaks(cpu, 0);
        }
        try (Backend cuda = new CudaBackend(StandIn.open(), Precision.FP32)) {
            breaks(cuda, 1);
        }
    }

    /** What was issued behind the broken step leaves no trace: the second attempt is the one that never broke, at half its rate. */
    @Test
    void aBlockThatBreaksBeginsAgain() throws Exception {
        for (boolean onCpu : List.of(true, false)) {
            try (Backend b = onCpu ? new CpuBackend(1) : new CudaBackend(StandIn.open(), Precision.FP32)) {
                Path rescued = run("rescued on " + b.name(), b, new Toy(3, 2));
                assertTrue(said.getLast().contains("toy of block 3, step " + BREAKS + ": loss = Infinity") && said.getLast().contains("attempt 1 of 1"), said.getLast());
                List<String> lines = Files.readAllLines(rescued.resolve("metrics.jsonl"));
                assertEquals(BREAKS + STEPS, lines.size());
                double expected = 0;
                for (int k = 1; k <= N; k++) expected += Math.pow(k - 0.05, 2) / N; // a first step of AdamW is the rate
                JsonNode second = new ObjectMapper().readTree(lines.get(BREAKS + 1));
                for (int k = 1; k <= N; k++) expected += (1 + 2 * (k - 0.05)) / N;   // its batch is 1
                assertEquals(expected, second.get("train/loss").asDouble(), 1e-4);
                assertEquals(0.05, second.get("train/lr").asDouble(), 1e-9);
            }
        }
    }
}
