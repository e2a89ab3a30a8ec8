package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.data.GgmlType;
import dev.qat.data.Tokenizer;
import dev.qat.method.Course;
import dev.qat.method.Trained;
import dev.qat.method.Tequila;
import dev.qat.model.Model;
import dev.qat.train.EndToEnd;
import dev.qat.train.ModelLm;
import dev.qat.train.Part;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Schedule;
import dev.qat.watch.Watch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Tequila on the committed model, from training to a file that llama.cpp runs: the same model, with its biases and not without. */
class TernaryGgufTest {
    private static final int B = 4, T = 128;
    private static final String TEXT = "KING:\nWhat says the night, my lord, and who goes there?\nThe watch is set, the gates are barred with care.\n\n"
            + "FOOL:\nThen bar thy heart as well, good sir, for I\nHave walked through gates of oak and never by.\n\n";

    @TempDir
    Path temp;

    @Test
    void llamaCppRunsWhatTequilaTrained() {
        Oracle.require();
        Path source = Path.of(System.getProperty("qat.root", "root-not-given")).resolve("examples/models/shakespeare-3m");
        if (!Files.exists(source.resolve("model.safetensors"))) {
            System.err.println("SKIPPED: " + source + " has no model.safetensors");
            Assumptions.abort(source + " has no weights");
        }
        try (CpuBackend backend = new CpuBackend(2)) {
            Course course = new Course(6, 4, 2e-3, 0, new Schedule(Schedule.Shape.COSINE, 0.2, 0), 1, EndToEnd.Loss.DISTILL, 0, Part.ALL, Trained.LINEARS, true, false);
            Recipe r = new Recipe("tequila", new Recipe.Source(source, Recipe.Init.LOAD), "cpu", Precision.FP32, false, 2, 3, temp,
                    new Recipe.Data(List.of(), List.of(), 0, 64, 0, 16, 1, 0, 0), new Recipe.Eval(List.of(), 0, 64, 4, 4), Recipe.Save.DEFAULTS, Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "",
                    List.of(new Tequila(Tequila.Rule.TWN, 256, 0.5, Tequila.Epsilon.FIXED, false, 0, course)));
            Path run = Runner.run(r, "name: tequila\n", Map.of("qat", "test"), backend, Watch.NOBODY).directory();
            try (FrozenDir frozen = FrozenDir.open(run.resolve("model")); Tokenizer tokenizer = Tokenizer.of(source)) {
                int[] text = Arrays.copyOf(tokenizer.encodeWithBos(TEXT.repeat(4)), B * T + 1);
                for (GgmlType type : List.of(GgmlType.TQ2_0, GgmlType.TQ1_0)) check(frozen, type, text, backend);
                reads(frozen);
            }
        }
    }

    private void check(FrozenDir frozen, GgmlType type, int[] text, CpuBackend backend) {
        Path file = temp.resolve(type.label() + ".gguf");
        Report report = Exports.of("gguf:" + type.label(), Exports.Options.DEFAULT).write(file, frozen);
        assertEquals(28, report.tensors().stream().filter(t -> t.type().equals(type.name())).count());
        assertEquals(28, report.tensors().stream().filter(t -> t.name().endsWith(".bias")).count());
        try (GgufIn back = GgufIn.open(file)) {
            assertTrue(Proof.of(frozen, back, report).weights() > 3_000_000);
        }
        Model ours = frozen.load(backend.memory());
        try (LlamaCppLm theirs = LlamaCppLm.open(file, 1); ModelLm lm = new ModelLm(ours, backend)) {
            int[] ids = Arrays.copyOf(text, 2 * T); // a sequence, within the model's context of 512
            float[] logits = theirs.logits(ids);
            double cosine = Oracle.cosine(logits, Oracle.logits(ours, backend, ids));
            double a = Oracle.perplexity(lm, text, B, T), b = Oracle.perplexity(theirs, text, B, T);
            ours.linears().forEach(l -> backend.fill(l.bias.value(), 0));
            double without = Oracle.cosine(logits, Oracle.logits(ours, backend, ids)), c = Oracle.perplexity(lm, text, B, T);
            System.out.printf(Locale.ROOT, "%s: cosine %.6f, perplexity ours %.4f, llama.cpp %.4f (%+.4f %%); biases ignored: cosine %.6f, perplexity %.4f%n",
                    type, cosine, a, b, 100 * (b / a - 1), without, c);
            assertTrue(cosine >= 0.9995, "cosine " + cosine);
            assertEquals(1, b / a, 0.01, "perplexity");
            assertTrue(without < 0.9995, "biases ignored go unseen: cosine " + without + ", perplexity " + c + " against " + b);
        }
    }

    /** Blocks of 64 hold groups of 256 as well, but llama.cpp of March 2025 does not know their type. */
    private void reads(FrozenDir frozen) {
        Path file = temp.resolve("q2_0.gguf");
        Report report = Exports.of("gguf:q2_0", Exports.Options.DEFAULT).write(file, frozen);
        try (GgufIn back = GgufIn.open(file)) {
            assertTrue(Proof.of(frozen, back, report).weights() > 3_000_000);
        }
        Failing.with(dev.qat.tensor.Fail.DATA, () -> LlamaCppLm.open(file, 1).close(), file, "llama.cpp does not load it");
    }
}
