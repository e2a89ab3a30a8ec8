package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.data.HfModelDir;
import dev.qat.data.Safetensors;
import dev.qat.export.FrozenDir;
import dev.qat.method.AbsMean;
import dev.qat.method.Course;
import dev.qat.method.Trained;
import dev.qat.method.Dlt;
import dev.qat.method.LsqTernary;
import dev.qat.method.Original;
import dev.qat.method.Seq;
import dev.qat.method.Sherry;
import dev.qat.method.Tequila;
import dev.qat.method.Twn;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.ops.Sampling;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Every ternary method trained on a tiny model, and what Tequila leaves in the files. */
final class TernaryRunTest {
    @TempDir
    Path temp;
    private Backend backend;
    private Path model;

    @BeforeEach
    void open() {
        backend = new CpuBackend(2);
        model = TinyModels.write(temp.resolve("model"), backend, 7);
    }

    @AfterEach
    void close() {
        backend.close();
    }

    private Runner.Result run(List<Stage> stages) {
        return run("ternary", stages);
    }

    private Runner.Result run(String name, List<Stage> stages) {
        Recipe r = new Recipe(name, new Recipe.Source(model, Recipe.Init.LOAD), "cpu", Precision.FP32, false, 2, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, 32, 0, 64, 1, 0, 0), new Recipe.Eval(List.of(), 0, 32, 16, 8), Recipe.Save.DEFAULTS, Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", stages);
        return Runner.run(r, "name: " + name + "\n", Map.of("qat", "test"), backend, Watch.NOBODY);
    }

    private static Course course(int epochs, EndToEnd.Loss loss) {
        return new Course(epochs, 8, 3e-3, 0, new Schedule(Schedule.Shape.WSD, 0.1, 0), 1, loss, 0, Part.ALL, Trained.ALL, true, false);
    }

    @Test
    void trainingBringsEveryMethodNearerToFullPrecision() throws Exception {
        List<Stage> stages = new ArrayList<>();
        for (int epochs : new int[] {0, 6}) {
            Course c = course(epochs, EndToEnd.Loss.DISTILL);
            for (Stage s : List.of(new AbsMean(32, 0, c), new AbsMean(-1, 8, c), new Twn(32, 0, c), new LsqTernary(32, 0, c), new Seq(32, 3, true, 0, c), new Seq(32, 4, false, 0, c), new Dlt(32, 0, c),
                    new Sherry(32, 1, 0.1, 0, c), new Tequila(Tequila.Rule.ABSMEAN, 32, 1e-3, Tequila.Epsilon.FIXED, false, 0, c),
                    new Tequila(Tequila.Rule.TWN, 32, 1e-3, Tequila.Epsilon.ROW, true, 0, c), new Tequila(Tequila.Rule.LEARNED, 32, 1e-3, Tequila.Epsilon.WEIGHT, false, 0, c))) {
                stages.add(s);
                stages.add(new Original());
            }
        }
        stages.removeLast();
        Runner.Result result = run(stages);
        List<Row> rows = result.rows();
        assertEquals(23, rows.size());
        for (int i = 1; i <= 11; i++) {
            Row before = rows.get(i), after = rows.get(i + 11);
            assertTrue(before.name().endsWith("untrained)") && after.name().endsWith("distilled)"), before + " and " + after);
            assertTrue(after.kl() < 0.8 * before.kl(), before + " became " + after);
            if (after.name().contains("2 bits")) continue;
            assertTrue(after.notes().get("dead_stayed") > 0.3 && after.notes().get("dead_stayed") < 1, after.toString());
            assertTrue(after.notes().get("dead_start") > 0.1 && after.notes().get("dead_end") < 0.9, after.toString());
        }
        int readings = 0;
        for (String line : Files.readAllLines(result.directory().resolve("metrics.jsonl"))) {
            JsonNode n = new ObjectMapper().readTree(line);
            if (n.has("train/dead_share")) readings++;
        }
        assertTrue(readings >= 11 * 8, readings + " counts of dead weights");
    }

    /** Looks at the model with Tequila's bias beside it, and once it is merged. */
    private record Look(Stage stage, List<float[]> seen) implements Stage {
        @Override
        public void run(Run run) {
            stage.run(run);
            if (run.planned()) return;
            seen.add(logits(run.student(), run.backend()));
            assertTrue(run.packed().values().stream().allMatch(p -> p.bias() != null));
            run.bake();
            assertTrue(run.student().linears().stream().allMatch(l -> l.bias != null && l.biasSite.isEmpty()));
            seen.add(logits(run.student(), run.backend()));
        }

        @Override
        public boolean judged() {
            return false;
        }
    }

    private static float[] logits(Model m, Backend backend) {
        int T = 32;
        Positions at = m.positions(1, T);
        Tensor ids = backend.memory().tensor("ids", DType.I32, T), out = backend.memory().tensor("logits", T, m.config.V());
        int[] text = new int[T];
        for (int i = 0; i < T; i++) text[i] = i * 11 % m.config.V();
        backend.memory().set(ids, text);
        try (Step step = new Step(backend, "logits", false, t -> t.backend().copy(out, Ops.linear(t, m.hidden(t, ids, at, false), m.head.value(), null, null)))) {
            step.run();
        }
        return backend.memory().floats(out);
    }

    /** From packed trits with rounded activations, a decoder of a run's model says what it says from the weights. */
    @Test
    void aModelIsDecodedFromItsTrits() {
        Stage tequila = new Tequila(Tequila.Rule.TWN, 64, 0.1, Tequila.Epsilon.FIXED, false, 0, course(2, EndToEnd.Loss.DISTILL));
        Path dir = run(List.of(tequila)).directory().resolve("model");
        try (HfModelDir written = HfModelDir.open(dir)) {
            Model m = Model.load(written, backend.memory());
            int[] expected = said(m);
            assertEquals(14, PackedDecoding.use(m, dir, backend));
            for (var l : m.linears()) {
                int I = (int) l.inputs(), O = (int) l.outputs();
                float[] values = new float[3 * I];
                for (int i = 0; i < values.length; i++) values[i] = (float) Math.sin(i * 1.7 + Math.sqrt(i));
                Tensor x = backend.memory().tensor("x", 3, I), plus = backend.memory().tensor("plus", 3, O), weights = backend.memory().tensor("from weights", 3, O), trits = backend.memory().tensor("from trits", 3, O);
                backend.memory().set(x, values);
                backend.fill(plus, 0.5f);
                try (Step step = new Step(backend, "both", false, t -> {
                    t.backend().copy(weights, l.forward(t, x, plus));
                    t.backend().copy(trits, l.direct.apply(t, x, l.bias.value(), plus));
                })) {
                    step.run();
                }
                float[] a = backend.memory().floats(weights), b = backend.memory().floats(trits);
                double off = 0, all = 0;
                for (int i = 0; i < a.length; i++) {
                    off += Math.pow(a[i] - b[i], 2);
                    all += Math.pow(a[i] - 0.5, 2);
                }
                assertTrue(off > 0 && Math.sqrt(off / all) < 2e-3, l.name + " is off by " + Math.sqrt(off / all));
            }
            int[] got = said(m);
            int same = 0;
            for (int i = 0; i < got.length; i++) if (got[i] == expected[i]) same++;
            assertTrue(same >= got.length - 2, same + " of " + got.length + " tokens are the same");
        }
    }

    /** The likeliest token after every beginning of two texts. */
    private int[] said(Model m) {
        int T = 40;
        int[] said = new int[2 * T];
        try (ModelLm lm = new ModelLm(m, backend); var decoder = lm.decoder(2, T, Sampling.GREEDY)) {
            for (int i = 0; i < T; i++) {
                int[] drawn = new int[2];
                decoder.step(new int[] {1 + i * 7 % 63, 1 + i * 5 % 61}, new int[] {i, i}, new int[] {0, 1}, drawn, null);
                said[i] = drawn[0];
                said[T + i] = drawn[1];
            }
        }
        return said;
    }

    /** Whatever finds the dead zone, and however they count, dead weights become one bias: the model with it merged says what it says with it beside. */
    @ParameterizedTest
    @EnumSource
    void everyRuleCanReactivateAndMerge(Tequila.Rule rule) {
        for (Tequila.Epsilon learn : Tequila.Epsilon.values()) {
            for (boolean sign : new boolean[] {false, true}) {
                List<float[]> seen = new ArrayList<>();
                Tequila tequila = new Tequila(rule, 32, sign ? 0.02 : 0.5, learn, sign, 0, course(1, EndToEnd.Loss.CROSS_ENTROPY));
                run(learn + (sign ? "-sign" : ""), List.of(new Look(tequila, seen)));
                assertArrayEquals(seen.get(0), seen.get(1), 1e-5f, tequila.toString());
            }
        }
    }

    /** Three of four, as 5 bits for the four: 1.25 bits a weight and an fp16 step for every 32, and the file is as small and says the same. */
    @Test
    void sherryIsWrittenInFiveBitsForFourWeights() {
        Runner.Result result = run(List.of(new Sherry(32, 1, 0.1, 0, course(1, EndToEnd.Loss.DISTILL))));
        assertEquals(1.25 + 16 / 32.0, result.rows().getLast().bitsPerWeight());
        Path dir = result.directory().resolve("model");
        try (HfModelDir written = HfModelDir.open(dir); FrozenDir frozen = FrozenDir.open(dir); Safetensors file = Safetensors.open(dir.resolve("packed.safetensors"))) {
            Model model = Model.load(written, backend.memory());
            assertEquals(model.linears().size(), frozen.quantized().size());
            for (var l : model.linears()) {
                assertEquals(l.outputs() * ((l.inputs() / 4 * 5 + 31) / 32), file.entry(l.name + ".codes").count(), "words of 32 bits");
                float[] w = new float[Math.toIntExact(l.outputs() * l.inputs())];
                frozen.read(l.name + ".weight", MemorySegment.ofArray(w));
                assertArrayEquals(backend.memory().floats(l.weight.value()), w);
            }
        }
    }

    @Test
    void theMergedBiasIsTheSameModelAndIsSaved() {
        List<float[]> seen = new ArrayList<>();
        Stage tequila = new Tequila(Tequila.Rule.ABSMEAN, 32, 0.5, Tequila.Epsilon.FIXED, false, 0, course(1, EndToEnd.Loss.CROSS_ENTROPY));
        Runner.Result result = run(List.of(new Look(tequila, seen)));
        assertArrayEquals(seen.get(0), seen.get(1), 1e-5f);
        Path dir = result.directory().resolve("model");
        try (HfModelDir written = HfModelDir.open(dir)) {
            assertTrue(written.config().get("attention_bias").asBoolean() && written.config().get("mlp_bias").asBoolean());
            Model loaded = Model.load(written, backend.memory());
            assertArrayEquals(seen.get(0), logits(loaded, backend), 1e-5f);
            loaded.linears().forEach(l -> backend.fill(l.bias.value(), 0));
            float[] without = logits(loaded, backend);
            double most = 0;
            for (int i = 0; i < without.length; i++) most = Math.max(most, Math.abs(without[i] - seen.get(0)[i]));
            assertTrue(most > 1e-3, "the bias must matter here, or the test proves nothing: " + most);
        }
    }
}
