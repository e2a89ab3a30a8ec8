package dev.qat.cli;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.Gguf;
import dev.qat.export.Tiny;
import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

/** {@code qat export} on what a finished run leaves. */
class ExportTest {
    @TempDir
    Path dir;
    @RegisterExtension
    final Console console = new Console();
    private final ByteArrayOutputStream out = console.out, err = console.err;
    @AutoClose
    private final CpuBackend backend = new CpuBackend(1);

    private String export(int code, String... args) {
        return console.run(code, Stream.concat(Stream.of("export", dir.resolve("run").toString()), Stream.of(args)).toArray(String[]::new));
    }

    @Test
    void aFileIsWrittenProvedAndDescribed() {
        Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.symmetric(4, 32)).run(dir.resolve("run"));
        String said = export(0, "--target", "gguf:q4_0", "--embeddings", "q8_0");
        Path file = dir.resolve("run/export/gguf-q4_0.gguf");
        assertTrue(Files.isRegularFile(file));
        assertTrue(said.contains("Proved: all 61,440 weights of 14 linears read back as (code - zero) x stored step, bit for bit."), said);
        assertTrue(said.contains("4.500 bits per weight of the linears") && said.contains("Q8_0") && said.contains("Steps are stored as fp16"), said);
        assertTrue(said.contains(file.toString()), said);
        assertFalse(said.contains("Rounded again"), said);
        assertTrue(export(0, "--target", "gguf:q4_0").contains("Proved"), "what export wrote itself, it may replace");
        try (Gguf written = Gguf.open(file)) {
            assertEquals("run", written.text("general.name"));
            assertEquals("name: tiny\n", written.text("qat.recipe"));
            assertEquals(64, written.text("qat.fingerprint").length());
        }
    }

    /** What no other engine rounds is said: dropped by a file that cannot hold it, kept by a directory for this engine. */
    @ParameterizedTest
    @CsvSource({"gguf:q4_0, does not say", "gptq-v2, others compute with them unrounded", "hf, others compute with them unrounded"})
    void roundedActivationsAreSpokenOf(String target, String words) throws Exception {
        Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.symmetric(4, 32)).run(dir.resolve("run"));
        assertFalse(export(0, "--target", target).contains("rounded ("), "nothing is rounded yet");
        new TinyDir(dir).reconfigure(dir.resolve("run/model"), """
                {"static_quantization": {"scheme": "symmetric per tensor", "blocks": [{}, {"o_input": {"bits": 8, "scale": 0.1, "zero_point": 0}}]}}""");
        String said = export(0, "--target", target);
        assertTrue(said.contains("rounded (static_quantization)") && said.contains(words), said);
        Path written = Files.list(dir.resolve("run/export")).filter(Files::isDirectory).findFirst().orElse(null);
        assertEquals(!target.startsWith("gguf"), written != null && Files.readString(written.resolve("config.json")).contains("static_quantization"));
    }

    @Test
    void aDirectoryGoesWhereItIsTold() {
        Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.asymmetric(2, 32)).run(dir.resolve("run"));
        assertTrue(export(0, "--target", "gptq-v2", "--out", dir.resolve("there").toString()).contains("Proved: all"));
        assertTrue(Files.isRegularFile(dir.resolve("there/quantize_config.json")));
        assertTrue(Files.isRegularFile(dir.resolve("there/tokenizer.json")));
        assertFalse(Files.exists(dir.resolve("run/export")));
        assertTrue(export(0, "--target", "gptq-v2", "--out", dir.resolve("cut").toString(), "--shard-size", "20KB").contains("Proved: all"));
        assertTrue(Files.isRegularFile(dir.resolve("cut/model.safetensors.index.json")));
        assertTrue(export(Fail.USAGE, "--target", "gptq-v2", "--shard-size", "many").contains("500MB"));
        assertTrue(export(Fail.USAGE, "--target", "hf", "--out", dir.resolve("there").toString()).contains("already exists"));
        assertTrue(Files.isRegularFile(dir.resolve("there/quantize_config.json")));
    }

    @Test
    void whatDoesNotFitNeedsAWord() {
        Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.asymmetric(4, 32)).run(dir.resolve("run"));
        assertTrue(export(Fail.USAGE, "--target", "gguf:q4_0").contains("--requantize"));
        String said = export(0, "--target", "gguf:q4_0", "--requantize");
        assertTrue(said.contains("Rounded again: ") && !said.contains("Proved"), said);
        assertTrue(export(Fail.USAGE, "--target", "gguf:q5_k").contains("gguf:q4_0"));
        assertTrue(export(Fail.USAGE, "--target", "hf", "--embeddings", "q4").contains("q6_k"));
        assertTrue(export(Fail.USAGE, "--target", "hf", "--requantize").contains("gguf"));
    }

    /** qat train with a target ends with the file, its proof in the output and in result.json. */
    @Test
    void aRunWithATargetEndsWithItsFile() throws Exception {
        TinyDir tiny = TinyDir.in(dir);
        assertEquals(0, Main.run("train", tiny.recipe(), "target=compressed-tensors:w3g12-sym"), err.toString(UTF_8));
        Path run = dir.resolve("runs/tiny"), file = run.resolve("export/compressed-tensors-w3g12-sym");
        assertTrue(out.toString(UTF_8).contains("read back as (code - zero) x stored step, bit for bit."), out.toString(UTF_8));
        assertFalse(out.toString(UTF_8).contains("Steps are stored as fp16"), "steps were trained as fp16");
        var result = new com.fasterxml.jackson.databind.ObjectMapper().readTree(run.resolve("result.json").toFile()).path("export");
        assertEquals(file.toString(), result.path("path").asText());
        assertTrue(result.path("proved_weights").asLong() > 0 && result.path("largest_step_move").asDouble(-1) == 0, result.toString());
        assertTrue(Files.readString(file.resolve("config.json")).replace(" ", "").contains("\"symmetric\":true"), "zero points were not fixed");
        assertTrue(Files.readString(run.resolve("recipe.yaml")).contains("compressed-tensors:w3g12-sym"));
    }

    @Test
    void aRecipeThatTheTargetCannotHoldIsRefusedBeforeTheWork() throws Exception {
        TinyDir tiny = TinyDir.in(dir);
        for (String[] bad : new String[][] {{"gguf:q4_0", "group = 12 does not fit target gguf:q4_0"}, {"compressed-tensors:w4g12", "bits = 3 does not fit"},
            {"gptq:w9g12", "gptq:w8g12"}, {"gguf:tq1_0", "ternary"}, {"gptq-v2:w3g12", "multiples of 32"}}) {
            err.reset();
            assertEquals(Fail.USAGE, Main.run("train", tiny.recipe(), "target=" + bad[0]), err.toString(UTF_8));
            assertTrue(err.toString(UTF_8).contains(bad[1]), err.toString(UTF_8));
            assertFalse(err.toString(UTF_8).contains("step 1"), "work was done");
        }
        assertFalse(Files.exists(dir.resolve("runs/tiny/model")));
    }

    /** The usual way beside ours: the same file but for the linears, which llama.cpp has rounded again. */
    @Test
    void theUsualWayMovesWhatWasTrained() {
        Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.symmetric(4, 32)).run(dir.resolve("run"));
        String said = export(0, "--target", "gguf:q4_0", "windows=2", "length=32");
        if (said.contains("SKIPPED")) {
            console.shout("SKIPPED: no test against llama.cpp: " + said);
            org.junit.jupiter.api.Assumptions.abort("no llama.cpp");
        }
        said = export(0, "--target", "gguf:q4_0", "--usual", "windows=2", "length=32");
        String exact = said.lines().filter(l -> l.startsWith("export-exact")).findFirst().orElseThrow(), usual = said.lines().filter(l -> l.startsWith("rounded again")).findFirst().orElseThrow();
        assertTrue(exact.contains(" 0.00%"), said);
        double moved = Double.parseDouble(usual.split("\\s{2,}")[1].replace("%", ""));
        assertTrue(moved > 10, said);
        assertTrue(Files.isRegularFile(dir.resolve("run/export/usual-gguf-q4_0.gguf")), said);
        assertTrue(export(Fail.USAGE, "--target", "gguf:q4_0", "windows=0").contains("windows = 0"));
        assertTrue(export(Fail.USAGE, "--target", "gptq-v2", "--usual").contains("gguf:q4_0"));
    }

    @Test
    void aRunThatIsNotThereIsASentence() {
        assertTrue(export(Fail.USAGE, "--target", "hf").contains("no model in it"));
        assertTrue(export(Fail.USAGE).contains("--target"));
    }
}
