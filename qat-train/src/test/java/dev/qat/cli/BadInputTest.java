package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.tensor.Fail;
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

/**
 * What users get wrong, as whole commands: each ends with its exit code and one message (what, where, got, expected, what to do
 * next), and leaves nothing half-written under a final name.
 */
class BadInputTest {
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

    /** {@code qat train} with the tiny recipe and overrides. */
    private String train(int code, String... overrides) throws IOException {
        String message = refused(code, Stream.concat(Stream.of("train", dir.recipe()), Arrays.stream(overrides)).toArray(String[]::new));
        assertNothingUnderAFinalName();
        return message;
    }

    /** Runs a command that must fail, and returns the one message it leaves. */
    private String refused(int code, String... command) {
        err.reset();
        int got = Main.run(command);
        String all = err.toString(UTF_8);
        List<String> messages = all.lines().filter(l -> l.startsWith("qat: ")).toList();
        assertEquals(code, got, all);
        assertEquals(1, messages.size(), all);
        assertFalse(all.contains("\tat "), "a stack trace is no message: " + all);
        return all.substring(all.indexOf("qat: "));
    }

    private void assertNothingUnderAFinalName() throws IOException {
        Path run = temp.resolve("runs/tiny");
        assertFalse(Files.isDirectory(run.resolve("model")), "a model was written");
        assertFalse(Files.exists(run.resolve("result.json")), "a result was written");
        try (Stream<Path> all = Files.walk(temp)) {
            List<Path> temporary = all.filter(p -> p.getFileName().toString().endsWith(".tmp")).toList();
            assertEquals(List.of(), temporary, "temporary files are left behind");
        }
    }

    private static void assertSays(String message, String... parts) {
        for (String part : parts) assertTrue(message.contains(part), "'" + part + "' is not in: " + message);
    }

    @Test
    void theRecipeItselfIsGood() throws IOException {
        assertEquals(0, Main.run("train", dir.recipe()), err.toString(UTF_8));
        Path run = temp.resolve("runs/tiny");
        for (String file : List.of("recipe.yaml", "metrics.jsonl", "result.json", "model/model.safetensors", "model/packed.safetensors", "model/tokenizer.json")) {
            assertTrue(Files.isRegularFile(run.resolve(file)), file);
        }
        // and the model it wrote can be judged
        out.reset();
        assertEquals(0, Main.run("eval", "--model", run.resolve("model").toString(), "--text", dir.path("text.txt"), "--json", "window=16", "threads=1"), err.toString(UTF_8));
    }

    @Test
    void aMissingModel() throws IOException {
        String here = dir.path("nowhere");
        assertSays(train(Fail.DATA, "model.path=" + here), here, "no such model directory", "give the folder that holds config.json");
        assertSays(refused(Fail.DATA, "eval", "--model", here, "--text", dir.path("text.txt")), here, "no such model directory");
        Files.delete(temp.resolve("model/model.safetensors"));
        assertSays(train(Fail.DATA), dir.path("model"), "has no weights, expected model.safetensors");
    }

    @Test
    void aTruncatedModel() throws IOException {
        Path weights = temp.resolve("model/model.safetensors");
        byte[] whole = Files.readAllBytes(weights);
        Files.write(weights, Arrays.copyOf(whole, whole.length - 100));
        assertSays(train(Fail.DATA), weights.toString(), "truncated or damaged", "data bytes but the file holds", "download or export it again");
        Files.write(weights, Arrays.copyOf(whole, 5));
        assertSays(refused(Fail.DATA, "eval", "--model", dir.path("model"), "--text", dir.path("text.txt")), weights.toString(), "5 bytes long, expected at least 10");
    }

    @Test
    void aConfigForOtherWeights() throws IOException {
        dir.reconfigure(temp.resolve("model"), "{\"intermediate_size\": 48}");
        assertSays(train(Fail.DATA), "model.safetensors", "model.layers.0.mlp.gate_proj.weight has shape [36, 24], expected [48, 24]", "config and weights belong to different models");
        dir.reconfigure(temp.resolve("model"), "{\"intermediate_size\": 36, \"num_hidden_layers\": 3}");
        assertSays(train(Fail.DATA), dir.path("model"), "no tensor model.layers.2.", "check model_type in config.json");
        dir.reconfigure(temp.resolve("model"), "{\"num_hidden_layers\": 1}");
        assertSays(train(Fail.DATA), dir.path("model"), "the weights hold model.layers.1.");
        dir.reconfigure(temp.resolve("model"), "{\"model_type\": \"mamba\"}");
        assertSays(train(Fail.DATA), "config.json", "model_type is 'mamba'", "expected one of [llama, mistral");
    }

    /** Found before the first stage begins, though it is the last one that is wrong. */
    @Test
    void aGroupThatDoesNotDivideARow() throws IOException {
        String message = train(Fail.USAGE, "stages.block-ap.group=10");
        assertSays(message, "group = 10 does not divide the 24 inputs of model.layers.0.self_attn.q_proj", "Use a divisor of it, or -1 for the whole row");
        assertFalse(err.toString(UTF_8).contains("perplexity"), "the mistake was found after work was done: " + err.toString(UTF_8));
        assertSays(train(Fail.USAGE, "stages.rtn.group=24"), "group = 24 does not divide the 36 inputs of model.layers.0.mlp.down_proj");
    }

    @Test
    void moreWindowsInABatchThanThereAre() throws IOException {
        assertSays(train(Fail.USAGE, "stages.e2e-qp.batch=17"), "batch = 17", "only 16 training windows", "Lower batch");
        assertFalse(err.toString(UTF_8).contains("perplexity"), "the mistake was found after work was done");
    }

    @Test
    void aTokenizerOfAnotherModel() throws IOException {
        String small = dir.model("small", "{\"vocab_size\": 200}", false).toString();
        assertSays(train(Fail.DATA, "model.path=" + small), "tokenizer.json", "ids up to 257", "vocab_size is 200", "do not belong together");
        assertSays(refused(Fail.DATA, "eval", "--model", small, "--text", dir.path("text.txt")), "ids up to 257", "vocab_size is 200");
        Files.delete(temp.resolve("model/tokenizer.json"));
        assertSays(train(Fail.DATA), "tokenizer.json", "no such file");
    }

    @Test
    void noText() throws IOException {
        String empty = Files.writeString(temp.resolve("empty.txt"), " \n").toString(), tiny = Files.writeString(temp.resolve("short.txt"), "Hm.").toString();
        assertSays(train(Fail.DATA, "data.files=" + empty), empty, "the text is empty", "give a file with text");
        assertSays(train(Fail.DATA, "eval.files=" + empty), empty, "the text is empty");
        assertSays(train(Fail.DATA, "data.files=" + tiny), "4 tokens, too few for one window of 16 tokens", "give more text or choose a shorter window");
        assertSays(train(Fail.DATA, "eval.files=" + tiny), "4 tokens, too few for one window of 16 tokens");
        assertSays(train(Fail.DATA, "data.files=" + dir.path("gone.txt")), dir.path("gone.txt"), "no such text file", "check the path");
        assertSays(train(Fail.DATA, "eval.skip=100000"), "skip = 100000 leaves nothing of a text of 1080 characters");
        assertSays(refused(Fail.DATA, "eval", "--model", dir.path("model"), "--text", empty), empty, "the text is empty");
        assertSays(refused(Fail.DATA, "eval", "--model", dir.path("model"), "--text", tiny, "window=16"), "4 tokens, too few");
        Files.write(temp.resolve("latin.txt"), new byte[] {'a', (byte) 0xE9, 'b'});
        assertSays(train(Fail.DATA, "data.files=" + dir.path("latin.txt")), dir.path("latin.txt"), "not UTF-8 text");
    }

    /** As root nothing is forbidden, but a file can stand where a folder is needed. */
    @Test
    void anOutputThatCannotBeWritten() throws IOException {
        String file = Files.writeString(temp.resolve("occupied"), "mine").toString();
        assertSays(train(Fail.IO, "output=" + file), file, "Choose a directory you may write to with output=DIR");
        assertEquals("mine", Files.readString(temp.resolve("occupied")));
    }

    /** Found before the training, not after it. */
    @Test
    void aPlaceForTheModelThatSomethingElseHolds() throws IOException {
        Files.createDirectories(temp.resolve("runs/tiny"));
        Path place = Files.writeString(temp.resolve("runs/tiny/model"), "mine");
        assertSays(train(Fail.USAGE), place.toString(), "is a file, expected a new directory for the model");
        assertFalse(err.toString(UTF_8).contains("perplexity"), "the mistake was found after work was done");
        assertEquals("mine", Files.readString(place));
        Files.delete(place);
        Files.createDirectories(place);
        Files.writeString(place.resolve("diary.txt"), "mine");
        assertSays(refused(Fail.USAGE, "train", dir.recipe()), place.toString(), "is no model and is not replaced");
        assertEquals("mine", Files.readString(place.resolve("diary.txt")));
    }

    @Test
    void mistakesInTheRecipe() throws IOException {
        assertSays(train(Fail.USAGE, "stages.block-ap.epoch=3"), "stages.1.epoch: no such key; did you mean 'epochs'?", "Known here: batch, bits, epochs");
        String both = train(Fail.USAGE, "modl.path=x", "stages.rtn.bits=9", "data.length=sixteen");
        assertSays(both, "3 mistakes", "modl: no such key; did you mean 'model'?", "bits = 9, expected 2 to 8", "data.length: got 'sixteen', expected a whole number");
        assertSays(train(Fail.USAGE, "backend=gpu"), "backend = gpu, expected auto, cpu");
        assertFalse(Files.exists(temp.resolve("runs")), "nothing is made for a recipe that cannot run");
        assertSays(refused(Fail.USAGE, "train", dir.path("recipe.yml")), "no recipe", "did you mean '" + dir.recipe() + "'?");
    }

    @Test
    void aLearningRateThatBlowsUp() throws IOException {
        assertSays(train(Fail.NUMERIC, "stages.block-ap.weight-rate=1e38", "stages.block-ap.epochs=2"), "block-ap of block 0, step ", "loss = ", "gradient norm = ", "e+37",
                "is the first result that holds", " at model.layers.0.", "No model was written", "failure.json", "Lower the rate of this stage");
        var report = new ObjectMapper().readTree(Path.of(dir.path("runs/tiny/failure.json")).toFile());
        assertEquals("block-ap", report.get("stage").asText());
        assertEquals(1, report.get("attempt").asInt(), "it was tried again once");
        assertTrue(report.get("first").get("layer").asText().startsWith("model.layers.0."), report.toString());
        String e2e = train(Fail.NUMERIC, "stages=[{method: rtn, bits: 3, group: 12}, {method: e2e-qp, epochs: 4, batch: 4, rate: 1e38}]");
        assertSays(e2e, "e2e-qp, step ", "at learning rate ", "Lower the rate");
    }

    /** A block that broke begins again at the share of the rate that the recipe names, and then holds. */
    @Test
    void aBlockThatBreaksIsTriedAgainAtALowerRate() throws IOException {
        err.reset();
        assertEquals(0, Main.run("train", dir.recipe(), "name=rescued", "stages.block-ap.weight-rate=1e38", "stages.block-ap.epochs=2", "recovery.rate=1e-42"), err.toString(UTF_8));
        assertSays(err.toString(UTF_8), "The block begins again at 1.0E-42 of that rate, attempt 1 of 1");
        assertTrue(Files.exists(Path.of(dir.path("runs/rescued/model/packed.safetensors"))));
    }

    @Test
    void weightsThatAreNaN() throws IOException {
        String broken = dir.model("broken", "{}", true).toString();
        assertSays(train(Fail.NUMERIC, "model.path=" + broken), "fp: ", "NaN", "model");
        assertSays(train(Fail.NUMERIC, "model.path=" + broken, "stages=[{method: rtn, bits: 3, group: 12}]"), "fp: ", "NaN");
        // also where the model would have to speak first
        assertSays(train(Fail.NUMERIC, "model.path=" + broken, "data.files=[]", "eval.files=[]"), "NaN");
        assertSays(refused(Fail.NUMERIC, "eval", "--model", broken, "--text", dir.path("text.txt"), "window=16"), "window 0, position 0", "NaN", "export it again");
    }
}
