package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.export.Exports;
import dev.qat.export.FrozenDir;
import dev.qat.export.Tiny;
import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** What we pack, judged by {@code qat eval}; and runs that end with a file. */
class PackedModelsTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path dir;
    @RegisterExtension
    final Console console = new Console();
    private final ByteArrayOutputStream out = console.out, err = console.err;
    @AutoClose
    private final CpuBackend backend = new CpuBackend(1);

    @BeforeEach
    void capture() throws IOException {
        Files.writeString(dir.resolve("text.txt"), "A text that says little, and says it again and again. ".repeat(12));
    }

    private JsonNode eval(Path model, String... words) throws IOException {
        return console.eval(model, dir.resolve("text.txt"), Stream.concat(Stream.of("window=32"), Stream.of(words)).toArray(String[]::new));
    }

    @Test
    void everyFormatIsJudged() throws IOException {
        Path run = Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.symmetric(4, 32)).run(dir.resolve("run"));
        double trained = eval(run.resolve("model")).get("perplexity").asDouble();
        Path folder = Files.createDirectories(run.resolve("export"));
        for (String target : List.of("gptq", "gptq-v2", "awq", "compressed-tensors", "gguf:q4_0", "gguf:f32")) {
            Path file = folder.resolve(target.replace(':', '-') + (target.startsWith("gguf") ? ".gguf" : ""));
            try (FrozenDir model = FrozenDir.open(run.resolve("model"))) {
                Exports.of(target, Exports.Options.DEFAULT).write(file, model);
            }
            JsonNode judged = eval(file);
            assertEquals(1, judged.get("perplexity").asDouble() / trained, 2e-3, target); // steps and embedding went through fp16
            assertEquals("cpu", judged.get("backend").asText());
        }
        Path gguf = folder.resolve("gguf-f32.gguf"), alone = Files.copy(gguf, dir.resolve("alone.gguf"));
        assertEquals(trained, eval(alone).get("perplexity").asDouble(), 1e-4 * trained); // by the tokenizer in the file
        assertEquals(trained, eval(alone, "--tokenizer", dir.resolve("source").toString()).get("perplexity").asDouble(), 1e-4 * trained);
        err.reset();
        assertEquals(Fail.USAGE, Main.run("eval", "--model", run.resolve("model").toString(), "--engine", "llama.cpp", "--text", dir.resolve("text.txt").toString()));
        assertTrue(err.toString(UTF_8).contains("--target gguf"), err.toString(UTF_8));
    }

    @Test
    void llamaCppJudgesTheSameFile() throws IOException {
        Path run = Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.symmetric(4, 32)).run(dir.resolve("run"));
        int code = Main.run("export", run.toString(), "--target", "gguf:f32", "threads=1");
        assertEquals(0, code, err.toString(UTF_8));
        if (out.toString(UTF_8).contains("SKIPPED")) {
            console.shout("SKIPPED: no test against llama.cpp: " + out.toString(UTF_8));
            org.junit.jupiter.api.Assumptions.abort("no llama.cpp");
        }
        assertTrue(out.toString(UTF_8).contains("by llama.cpp"), out.toString(UTF_8));
        Path file = run.resolve("export/gguf-f32.gguf");
        JsonNode theirs = eval(file, "--engine", "llama.cpp");
        assertEquals("llama.cpp", theirs.get("backend").asText());
        assertEquals(1, theirs.get("perplexity").asDouble() / eval(file).get("perplexity").asDouble(), 1e-4);
    }

    /** Block by block and end to end on minima: what trained in every stage is what the file holds. */
    @Test
    void aRunOnMinimaEndsWithItsFile() throws IOException {
        Tiny.of(dir.resolve("source"), backend, "llama", 256, 256, "").run(dir.resolve("plain"));
        for (String target : List.of("gguf:q4_1", "gguf:q2_k")) {
            Files.writeString(dir.resolve("recipe.yaml"), """
                    name: minima
                    model: {path: %1$s/plain/model}
                    backend: cpu
                    threads: 1
                    output: %1$s/runs
                    target: %2$s
                    checkpoint: {resume: never}
                    data: {files: [%1$s/text.txt], length: 16, windows: 8}
                    eval: {files: [%1$s/text.txt], length: 16, windows: 4, batch: 4}
                    stages:
                      - {method: rtn}
                      - {method: block-ap, epochs: 1, batch: 4, weight-rate: 1e-3, scale-rate: 1e-3}
                      - {method: e2e-qp, epochs: 2, batch: 4, rate: 1e-3}
                      - {method: e2e-qat, epochs: 1, batch: 4, weight-rate: 1e-4, scale-rate: 1e-3}
                    """.formatted(dir, target));
            out.reset();
            assertEquals(0, Main.run("train", dir.resolve("recipe.yaml").toString()), err.toString(UTF_8));
            JsonNode result = JSON.readTree(dir.resolve("runs/minima/result.json").toFile());
            double judged = result.get("stages").get(4).get("perplexity").asDouble();
            assertEquals(0, result.get("export").get("largest_minimum_move").asDouble(), target);
            assertTrue(result.get("export").get("proved_weights").asLong() > 0, target);
            assertEquals(target.equals("gguf:q4_1") ? 5 : 2.625, result.get("stages").get(4).get("bits_per_weight").asDouble(), target);
            // the same windows as the last stage was judged on, out of the file
            assertEquals(1, result.get("export").get("engines").get("perplexity").asDouble() / judged, 1e-3, target);
        }
    }
}
