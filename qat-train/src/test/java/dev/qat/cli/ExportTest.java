package dev.qat.cli;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.Gguf;
import dev.qat.export.Tiny;
import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

/** {@code qat export} on what a finished run leaves. */
class ExportTest {
    @TempDir
    Path dir;
    private final PrintStream realOut = System.out, realErr = System.err;
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
    private final CpuBackend backend = new CpuBackend(1);

    @BeforeEach
    void capture() {
        System.setOut(new PrintStream(out, true, UTF_8));
        System.setErr(new PrintStream(err, true, UTF_8));
    }

    @AfterEach
    void release() {
        System.setOut(realOut);
        System.setErr(realErr);
        backend.close();
    }

    private String export(int code, String... args) {
        out.reset();
        err.reset();
        String[] all = new String[args.length + 2];
        all[0] = "export";
        all[1] = dir.resolve("run").toString();
        System.arraycopy(args, 0, all, 2, args.length);
        assertEquals(code, Main.run(all), err.toString(UTF_8));
        return code == 0 ? out.toString(UTF_8) : err.toString(UTF_8);
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

    @Test
    void aDirectoryGoesWhereItIsTold() {
        Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.asymmetric(2, 32)).run(dir.resolve("run"));
        assertTrue(export(0, "--target", "gptq-v2", "--out", dir.resolve("there").toString()).contains("Proved: all"));
        assertTrue(Files.isRegularFile(dir.resolve("there/quantize_config.json")));
        assertTrue(Files.isRegularFile(dir.resolve("there/tokenizer.json")));
        assertFalse(Files.exists(dir.resolve("run/export")));
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

    @Test
    void aRunThatIsNotThereIsASentence() {
        assertTrue(export(Fail.USAGE, "--target", "hf").contains("no model in it"));
        assertTrue(export(Fail.USAGE).contains("--target"));
    }
}
