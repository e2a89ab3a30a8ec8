package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.data.CausalLm;
import dev.qat.data.HfModelDir;
import dev.qat.data.Tokenizer;
import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.Shared;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.ModelLm;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class EvalTest {
    @TempDir
    Path temp;
    private TinyDir dir;

    @RegisterExtension
    final Console console = new Console();
    private final ByteArrayOutputStream out = console.out, err = console.err;

    @BeforeEach
    void capture() throws IOException {
        dir = TinyDir.in(temp);
    }

    /** What a good command prints on standard output. */
    private String eval(String... words) {
        return console.run(0, Stream.concat(Stream.of("eval", "--model", dir.path("model"), "threads=1"), Arrays.stream(words)).toArray(String[]::new));
    }

    private JsonNode json(String... words) throws IOException {
        String line = eval(words);
        assertTrue(line.endsWith("}\n") && line.lines().count() == 1, line);
        return new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS).readTree(line);
    }

    private String refused(String... words) {
        err.reset();
        assertEquals(2, Main.run(Stream.concat(Stream.of("eval", "--model", dir.path("model")), Arrays.stream(words)).toArray(String[]::new)));
        return err.toString(UTF_8);
    }

    /** The protocol spelled out with the reference backend, one window at a time. */
    private double perplexity(String text, int window) {
        try (Backend reference = new ReferenceBackend(); HfModelDir source = HfModelDir.open(temp.resolve("model")); Tokenizer tokenizer = Tokenizer.of(temp.resolve("model"));
                CausalLm lm = new ModelLm(Model.load(source, reference.memory()), reference)) {
            Windows w = Windows.evaluation(tokenizer.encodeWithBos(text), window);
            double sum = 0;
            float[] nll = new float[window];
            for (int i = 0; i < w.count(); i++) {
                lm.score(1, window, w.inputs(i), w.targets(i), nll);
                for (float loss : nll) sum += loss;
            }
            return Math.exp(sum / (w.count() * window));
        }
    }

    @Test
    void oneJsonObjectSaysWhatWasMeasured() throws IOException {
        String text = Files.readString(temp.resolve("text.txt"));
        JsonNode j = json("--text", dir.path("text.txt"), "--protocol", "windows", "--json", "window=16", "batch=3");
        double expected = perplexity(text, 16);
        assertEquals(expected, j.get("perplexity").asDouble(), 1e-5 * expected);
        assertEquals("windows", j.get("protocol").asText());
        assertEquals(text.length() / 16 * 16, j.get("tokens").asInt());
        assertEquals(16, j.get("window").asInt());
        assertEquals(Math.log(expected), j.get("nll").asDouble(), 1e-5);
        assertTrue(j.get("stderr").asDouble() > 0);
        assertEquals("cpu", j.get("backend").asText());
        assertEquals(j.get("perplexity").asDouble(), json("--text", dir.path("text.txt"), "--json", "window=16", "backend=reference").get("perplexity").asDouble(), 1e-5 * expected);
    }

    /** A model that LLM-QAT wrote rounds inputs, keys and values as it was trained to: the table's number, and another without the key. */
    @ParameterizedTest
    @CsvSource({"4-4-3, false, false, min-max", "4-4-3, true, true, llm-qat", "32-32-3, true, true, min-max", "4-4-32, false, false, llm-qat"})
    void aWrittenModelRoundsTokensAsItWasTrained(String bits, boolean asymmetric, boolean heads, String method) throws IOException {
        followed("{method: %s, bits: %s, asymmetric: %s, heads: %s}".formatted(method, bits, asymmetric, heads), "token_quantization", bits.startsWith("32"));
        refuses("{\"token_quantization\": {\"scheme\": \"min-max per token\", \"activation_bits\": 1, \"kv_cache_bits\": 4}}", "token_quantization");
    }

    /** The same of static ranges, which it also speaks with. */
    @ParameterizedTest
    @ValueSource(strings = {"{method: static, bits: 4-4-3}", "{method: static, bits: 4-32-3}", "{method: fptquant, bits: 4-4-4, steps: 4}"})
    void aWrittenModelHasItsStaticRanges(String stage) throws IOException {
        String ranges = followed(stage, "static_quantization", false);
        String recipe = Files.writeString(temp.resolve("speak.yaml"), """
                name: none
                model: {path: %1$s/runs/tokens/model}
                backend: cpu
                threads: 1
                output: %1$s/said
                generate: {sequences: 6, length: 20, batch: 3, shard: 6}
                compare: {windows: 4}
                """.formatted(temp)).toString();
        String unrounded = console.run(0, "generate", recipe, "name=unrounded");
        dir.reconfigure(temp.resolve("runs/tokens/model"), ranges);
        String rounded = console.run(0, "generate", recipe, "name=rounded");
        assertTrue(Arrays.mismatch(said("rounded"), said("unrounded")) >= 0, "rounding must show in what is said: " + unrounded + rounded);
        refuses("{\"static_quantization\": {\"scheme\": \"symmetric per tensor\", \"blocks\": []}}", "static_quantization");
    }

    private byte[] said(String name) throws IOException {
        return Files.readAllBytes(temp.resolve("said").resolve(name).resolve("tokens-00000.bin"));
    }

    /** A run's own number, from what it wrote; another once {@code key} is gone, which is given back. */
    private String followed(String stage, String key, boolean onlyTokens) throws IOException {
        String recipe = Files.writeString(temp.resolve("tokens.yaml"), """
                name: tokens
                model: {path: %1$s/model}
                backend: cpu
                threads: 1
                output: %1$s/runs
                data: {files: [%1$s/text.txt], length: 16, windows: 16}
                eval: {files: [%1$s/text.txt], length: 16}
                stages: [%2$s]
                """.formatted(temp, stage)).toString();
        assertEquals(0, Main.run("train", recipe), err.toString(UTF_8));
        JsonNode rows = new ObjectMapper().readTree(temp.resolve("runs/tokens/result.json").toFile()).get("stages");
        double fp = rows.get(0).get("perplexity").asDouble(), trained = rows.get(1).get("perplexity").asDouble();
        assertEquals(trained, written("runs/tokens/model"), 1e-6 * trained);
        JsonNode said = new ObjectMapper().readTree(temp.resolve("runs/tokens/model/config.json").toFile()).get(key);
        dir.reconfigure(temp.resolve("runs/tokens/model"), "{\"%s\": null}".formatted(key));
        double weights = written("runs/tokens/model");
        assertTrue(Math.abs(weights - trained) > 1e-5 * trained, "rounding must show: " + weights + ", " + trained);
        if (onlyTokens) assertEquals(fp, weights, 1e-6 * fp);
        return "{\"%s\": %s}".formatted(key, said);
    }

    private void refuses(String changes, String key) throws IOException {
        dir.reconfigure(temp.resolve("runs/tokens/model"), changes);
        assertEquals(Fail.DATA, Main.run("eval", "--model", dir.path("runs/tokens/model"), "--text", dir.path("text.txt"), "window=16"));
        assertTrue(err.toString(UTF_8).contains(key), err.toString(UTF_8));
    }

    private double written(String model) throws IOException {
        return console.eval(temp.resolve(model), temp.resolve("text.txt"), "window=16").get("perplexity").asDouble();
    }

    @Test
    void skipAndCharactersChooseAPartOfTheText() throws IOException {
        String text = Files.readString(temp.resolve("text.txt"));
        JsonNode j = json("--text", dir.path("text.txt"), "--json", "window=16", "skip=7", "characters=100");
        double expected = perplexity(text.substring(7, 107), 16);
        assertEquals(expected, j.get("perplexity").asDouble(), 1e-5 * expected);
        assertEquals(96, j.get("tokens").asInt());
    }

    @Test
    void everyProtocolIsNamedWithItsNumbers() throws IOException {
        Files.writeString(temp.resolve("stories.txt"), "Once.<|endoftext|>\nUpon a time.\n");
        assertEquals(17, json("--text", dir.path("stories.txt"), "--protocol", "stories", "--json").get("tokens").asInt());
        JsonNode gptq = json("--text", dir.path("text.txt"), "--protocol", "gptq", "--json");
        assertEquals(32, gptq.get("window").asInt(), "the model's context, as 2048 is longer");
        assertEquals(1081 / 32 * 31, gptq.get("tokens").asInt());
        String table = eval("--text", dir.path("text.txt"), "--protocol", "gptq");
        assertTrue(table.contains("gptq") && table.contains("perplexity") && table.contains(Format.fixed(gptq.get("perplexity").asDouble(), 4)), table);
        assertTrue(json("--text", dir.path("stories.txt"), "--json", "window=24").get("stderr").isNull(), "one window has no spread");
    }

    @Test
    void twoModelsAreTestedForADifference() throws IOException {
        String other = dir.model("other", "{\"rope_theta\": 3.0}", false).toString();
        JsonNode j = json("--text", dir.path("text.txt"), "--against", other, "--json", "window=16");
        assertEquals(other, j.get("against").get("model").asText());
        assertEquals(j.get("nll").asDouble() - j.get("against").get("nll").asDouble(), j.get("difference").get("nll").asDouble(), 1e-9);
        double p = j.get("difference").get("p").asDouble();
        assertTrue(p > 0 && p <= 1, "p = " + p);
        assertEquals(1, json("--text", dir.path("text.txt"), "--against", dir.path("model"), "--json", "window=16").get("difference").get("p").asDouble());
        assertTrue(eval("--text", dir.path("text.txt"), "--against", other, "window=16").contains("paired t-test over windows p = "));
    }

    @Test
    void tasksHaveAccuraciesWithTheirErrors() throws IOException {
        Files.writeString(temp.resolve("arc.jsonl"), "{\"question\":\"Why?\",\"choices\":[\"a b\",\"c\"],\"label\":1}\n".repeat(2) + "{\"question\":\"Who?\",\"choices\":[\"a b\",\"c\"],\"label\":0}\n");
        Files.writeString(temp.resolve("words.jsonl"), "{\"text\":\"one two\"}\n");
        String both = "arc_easy:" + dir.path("arc.jsonl") + ",lambada:" + dir.path("words.jsonl");
        JsonNode tasks = json("--tasks", both, "--json").get("tasks");
        assertEquals(List.of("arc_easy", "lambada"), tasks.properties().stream().map(e -> e.getKey()).toList());
        double acc = tasks.get("arc_easy").get("acc").asDouble();
        assertEquals(Math.sqrt(acc * (1 - acc) / 2), tasks.get("arc_easy").get("acc_stderr").asDouble(), 1e-12);
        assertTrue(tasks.get("arc_easy").has("acc_norm") && tasks.get("lambada").get("target_word_ppl").asDouble() > 1);
        assertEquals(2, json("--tasks", both, "--json", "items=2").get("tasks").get("arc_easy").get("items").asInt());
        assertTrue(eval("--tasks", both, "--text", dir.path("text.txt"), "window=16").contains("arc_easy"));
    }

    @Test
    void misuseSaysWhatIsKnown() {
        assertTrue(refused("--text", "x", "windw=3", "batch=no").contains("windw: no such key; did you mean 'window'? Known here: backend, batch, characters"), err.toString(UTF_8));
        assertTrue(err.toString(UTF_8).contains("2 mistakes"), "both at once");
        assertTrue(refused("--text", "x", "--protocol", "gtpq").contains("--protocol gtpq, expected one of windows, gptq, stories; did you mean 'gptq'?"));
        assertTrue(refused("--tasks", "piqua:x").contains("no task 'piqua'; did you mean 'piqa'?"));
        assertTrue(refused("--tasks", "piqa").contains("expected TASK:FILE"));
        assertTrue(refused().contains("give --text FILE, --tasks TASK:FILE, or both"));
        assertTrue(refused("--text", dir.path("text.txt"), "window=33").contains("window = 33, but the model's context is 32 tokens"));
        assertTrue(refused("--text", dir.path("text.txt"), "backend=gpu").contains("backend = gpu, expected"));
        assertTrue(refused("--text", "x", "skip=-1").contains("skip"));
        assertFalse(err.toString(UTF_8).contains("\tat "));
    }

    /** The command of the README against the numbers of another program. */
    @Test
    void theTailOfTinyStories() throws IOException {
        console.show(); // where a skip is told
        Path model = Shared.asset("stories3M"), text = Shared.asset("text/tinystories_head.txt");
        assertEquals(0, Main.run("eval", "--model", model.toString(), "--text", text.toString(),
                "--protocol", "windows", "--json", "skip=160027", "window=256", "backend=cpu"));
        JsonNode j = new ObjectMapper().readTree(out.toString(UTF_8));
        assertEquals(9.3579, j.get("perplexity").asDouble(), 1e-3);
        assertEquals(9728, j.get("tokens").asInt());
    }
}
