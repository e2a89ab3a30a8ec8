package dev.qat.export;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.CausalLm;
import dev.qat.data.GgmlType;
import dev.qat.data.HfModelDir;
import dev.qat.data.Windows;
import dev.qat.eval.Perplexity;
import dev.qat.eval.Protocol;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.ModelLm;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * A finished run written for a target, with the proof that the file holds what was trained: every weight decoded and compared,
 * and, of a GGUF file, the perplexity that llama.cpp finds beside ours.
 *
 * @param linears how many have codes  @param engines both perplexities; empty where the target is no GGUF
 */
public record Deployment(Report report, Proof proof, int linears, Optional<Engines> engines) {
    /** @param ours   perplexity of the file read and run by this engine  @param theirs by llama.cpp; NaN where {@code missing} says why not */
    public record Engines(double ours, double theirs, int windows, int length, String missing) {
        /** How far theirs is from ours. */
        public double apart() {
            return Math.abs(theirs - ours) / ours;
        }

        /** llama.cpp rounds activations to 8 bits before block products; more than this is no rounding. */
        public boolean agree() {
            return apart() <= 5e-3;
        }
    }

    private static final int WINDOWS = 8, LENGTH = 256;

    /**
     * Writes and proves.
     *
     * @param run     a run's directory, its model in {@code model/}  @param to the file or directory to write
     * @param windows what both engines read
     */
    public static Deployment of(Path run, String target, Exports.Options options, Path to, Windows windows, Backend backend) {
        Exporter exporter = Exports.of(target, options);
        try (Frozen model = FrozenDir.open(run.resolve("model"), notes(run))) {
            Report report = exporter.write(to, model);
            try (Frozen written = Exports.open(to)) {
                Proof proof = Proof.of(model, written, report);
                Optional<Engines> engines = written instanceof GgufIn ? Optional.of(engines(written, to, windows, backend)) : Optional.empty();
                return new Deployment(report, proof, model.quantized().size(), engines);
            }
        }
    }

    /**
     * The way trained weights usually go into a GGUF file, to compare with: what the codes stand for, rounded once more by
     * llama.cpp's own {@code ggml_quantize_chunk}; everything else as {@link #of} writes it.
     */
    public static Deployment usual(Path run, String target, Exports.Options options, Path to, Windows windows, Backend backend) {
        GgmlType type = target.startsWith("gguf:") ? GgmlType.named(Target.of(target).name().substring(5)).orElseThrow() : GgmlType.F32;
        if (!type.lattice() || !type.rounds()) throw Fail.usage("target %s is not one that llama.cpp rounds weights to and this engine reads: take gguf:q4_0, q4_1 or q8_0", target);
        try (LlamaProcess llama = LlamaProcess.start(); Frozen model = FrozenDir.open(run.resolve("model"), notes(run))) {
            Report report = new GgufOut(type, options.ends(), true, (t, row) -> llama.quantize(t, row, 1, row.length)).write(to, model);
            try (Frozen written = Exports.open(to)) {
                return new Deployment(report, Proof.of(model, written, report), 0, Optional.of(engines(written, to, windows, backend)));
            }
        }
    }

    /** RUN/export/gguf-q4_0.gguf, RUN/export/gptq-v2-w2g64, its folder made. */
    public static Path place(Path run, String target) {
        Path folder = run.resolve("export");
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw Fail.io(e, "cannot create %s: %s. Choose another place with --out.", folder, e.getMessage());
        }
        return folder.resolve(target.replace(':', '-') + (target.startsWith("gguf:") ? ".gguf" : ""));
    }

    /** What the written file says of its origin: the run, its recipe, a fingerprint of its weights. */
    private static Map<String, String> notes(Path run) {
        Map<String, String> notes = new LinkedHashMap<>();
        notes.put("name", run.toAbsolutePath().normalize().getFileName().toString());
        Path recipe = run.resolve("recipe.yaml");
        try (HfModelDir model = HfModelDir.open(run.resolve("model"))) {
            if (Files.isRegularFile(recipe)) notes.put("recipe", Files.readString(recipe));
            notes.put("fingerprint", model.fingerprint());
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", recipe, e.getMessage());
        }
        return notes;
    }

    /** The first few, each cut to a length that any context holds. */
    public static Windows some(Windows all) {
        int count = Math.min(WINDOWS, all.count()), length = Math.min(LENGTH, all.length());
        return new Windows(all.ids(), java.util.Arrays.copyOf(all.starts(), count), length);
    }

    private static Engines engines(Frozen written, Path file, Windows windows, Backend backend) {
        double ours;
        try (CausalLm lm = new ModelLm(written.load(backend.memory()), backend)) {
            ours = perplexity(lm, windows);
        }
        try (CausalLm lm = LlamaCppLm.open(file, Math.clamp(Runtime.getRuntime().availableProcessors(), 1, 8))) {
            return new Engines(ours, perplexity(lm, windows), windows.count(), windows.length(), "");
        } catch (Fail e) {
            return new Engines(ours, Double.NaN, windows.count(), windows.length(), e.getMessage());
        }
    }

    private static double perplexity(CausalLm lm, Windows windows) {
        return Perplexity.measure(lm, Protocol.WINDOWS, windows, windows.count(), _ -> {}).perplexity();
    }

    /** For result.json. */
    public ObjectNode json() {
        ObjectNode to = new ObjectMapper().createObjectNode().put("target", report.target()).put("path", report.path().toString()).put("bytes", report.bytes())
                .put("bits_per_weight", report.bitsPerWeight()).put("proved_weights", proof.weights()).put("other_tensors_within", proof.rest())
                .put("largest_step_move", report.maxScaleMove()).put("largest_minimum_move", report.maxOffsetMove());
        if (report.moved() != null) to.putObject("requantized").put("moved", report.moved().share()).put("rmse", report.moved().rmse());
        engines.ifPresent(e -> {
            ObjectNode both = to.putObject("engines").put("windows", e.windows).put("length", e.length).put("perplexity", e.ours);
            if (e.missing.isEmpty()) both.put("llama_cpp_perplexity", e.theirs);
            else both.put("llama_cpp_skipped", e.missing);
        });
        return to;
    }
}
