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
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQp;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A whole run on a tiny model: sampled text, round-to-nearest, both phases of EfficientQAT, the written files. */
final class RunnerTest {
    @TempDir
    static Path temp;
    static Backend backend;
    static Path model;
    static Runner.Result result;

    @BeforeAll
    static void run() {
        backend = new CpuBackend(2);
        model = TinyModels.write(temp.resolve("model"), backend, 7);
        result = run("a");
    }

    @AfterAll
    static void close() {
        backend.close();
    }

    private static Runner.Result run(String name) {
        Recipe r = new Recipe(name, new Recipe.Source(model, Recipe.Init.LOAD), "cpu", Precision.FP32, false, 2, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, 32, 0, 64, 1, 0, 0), new Recipe.Eval(List.of(), 0, 32, 16, 8), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "",
                List.of(new Rtn(2, 32), new BlockAp(2, 32, 4, 4, 3e-3, 3e-3, 0.05, Part.ALL, true),
                        new E2eQp(4, 8, 1e-3, 0.3, 0, EndToEnd.Loss.DISTILL, 0, Part.ALL, true, false, false)));
        return Runner.run(r, "name: " + name + "\n", Map.of("qat", "test"), backend, Watch.NOBODY);
    }

    @Test
    void everyPhaseBringsTheModelNearerToFullPrecision() {
        List<Row> rows = result.rows();
        assertEquals(List.of("fp", "rtn", "block-ap", "e2e-qp"), rows.stream().map(Row::name).toList());
        assertEquals(0, rows.get(0).kl(), 1e-6);
        assertTrue(rows.get(1).kl() > 0.05, "2 bits must hurt this model, KL " + rows.get(1).kl());
        assertTrue(rows.get(2).kl() < 0.8 * rows.get(1).kl(), "block-ap: " + rows);
        assertTrue(rows.get(3).kl() < rows.get(2).kl(), "e2e-qp: " + rows);
    }

    @Test
    void resultJsonNamesItsStagesInOrder() throws Exception {
        JsonNode json = new ObjectMapper().readTree(result.directory().resolve("result.json").toFile());
        assertEquals(List.of("fp", "rtn", "block-ap", "e2e-qp"), json.get("stages").findValuesAsText("name"));
        for (JsonNode stage : json.get("stages")) assertTrue(stage.hasNonNull("perplexity") && stage.hasNonNull("kl") && stage.hasNonNull("top1"));
        assertEquals(3, json.get("seed").asInt());
    }

    @Test
    void theWrittenModelLoadsAgainAndItsWeightsAreTheCodesTimesTheSteps() {
        Path dir = result.directory().resolve("model");
        try (HfModelDir written = HfModelDir.open(dir); Safetensors codes = Safetensors.open(dir.resolve("packed.safetensors"))) {
            String name = "model.layers.1.mlp.down_proj";
            var expected = Decoded.weights(codes, name);
            try (var arena = java.lang.foreign.Arena.ofConfined()) {
                var floats = arena.allocate(4L * expected.length, 8);
                written.read(name + ".weight", floats);
                assertArrayEquals(expected, floats.toArray(java.lang.foreign.ValueLayout.JAVA_FLOAT));
            }
        }
        TinyModels.load(dir, backend);
    }

    @Test
    void theSameRecipeGivesTheSameBytes() throws Exception {
        Runner.Result again = run("b");
        assertArrayEquals(Files.readAllBytes(result.directory().resolve("model/packed.safetensors")), Files.readAllBytes(again.directory().resolve("model/packed.safetensors")));
        for (int i = 0; i < again.rows().size(); i++) assertEquals(result.rows().get(i).perplexity(), again.rows().get(i).perplexity());
    }
}
