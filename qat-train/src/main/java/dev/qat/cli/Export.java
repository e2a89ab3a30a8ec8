package dev.qat.cli;

import dev.qat.data.GgmlType;
import dev.qat.data.HfModelDir;
import dev.qat.export.Exporter;
import dev.qat.export.Exports;
import dev.qat.export.Frozen;
import dev.qat.export.FrozenDir;
import dev.qat.export.Proof;
import dev.qat.export.Report;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Writes a finished run in the format of another program, and proves that the file holds what was trained. */
@Command(name = "export", versionProvider = Main.Version.class, mixinStandardHelpOptions = true,
        description = "Write a finished run as GGUF, GPTQ, AWQ or compressed-tensors, and prove the file.")
final class Export implements Callable<Integer> {
    @Parameters(index = "0", paramLabel = "RUNDIR", description = "The directory of a run, as qat train wrote it.")
    private Path run;

    @Option(names = "--target", required = true, paramLabel = "TARGET",
            description = "hf, gptq, gptq-v2, awq, compressed-tensors, or gguf:TYPE with f32, f16, q4_0, q4_1, q8_0, tq1_0, tq2_0, q2_0.")
    private String target;

    @Option(names = "--out", paramLabel = "PATH", description = "The file or directory to write; else one in RUNDIR/export.")
    private Path out;

    @Option(names = "--embeddings", paramLabel = "TYPE", defaultValue = "f16", description = "How GGUF stores embedding and head: f16, q8_0 or q6_k.")
    private String embeddings;

    @Option(names = "--requantize", description = "Round the weights again where the trained codes do not fit; says how much moves.")
    private boolean requantize;

    @Override
    public Integer call() {
        GgmlType ends = GgmlType.named(embeddings).orElseThrow(() -> Fail.usage("--embeddings %s, expected f16, q8_0 or q6_k", embeddings));
        Exporter exporter = Exports.of(target, new Exports.Options(ends, requantize));
        Path path = place(exporter);
        try (Frozen model = FrozenDir.open(run.resolve("model"), notes())) {
            Report report = exporter.write(path, model);
            try (Frozen written = Exports.open(path)) {
                print(report, Proof.of(model, written, report), model);
            }
        }
        return 0;
    }

    /** What --out says, or RUNDIR/export/gguf-q4_0.gguf, RUNDIR/export/gptq-v2. */
    private Path place(Exporter exporter) {
        if (!Files.isDirectory(run.resolve("model"))) throw Fail.usage("%s: no model in it; give the directory of a finished run", run);
        // a place of the user's own may hold anything, so nothing there is replaced
        if (out != null && Files.exists(out)) throw Fail.usage("%s already exists; choose another place with --out", out);
        if (out != null) return out;
        Path folder = run.resolve("export");
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw Fail.io(e, "cannot create %s: %s. Choose another place with --out.", folder, e.getMessage());
        }
        return folder.resolve(target.replace(':', '-') + (exporter.directory() ? "" : ".gguf"));
    }

    /** What the written file says of its origin: the run, its recipe, a fingerprint of its weights. */
    private Map<String, String> notes() {
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

    private static void print(Report r, Proof proof, Frozen model) {
        Table table = new Table(Table.text("type"), Table.number("tensors"), Table.number("weights"), Table.number("size"), Table.number("bits/weight"));
        Map<String, long[]> types = new LinkedHashMap<>(); // tensors, weights, bytes
        for (Report.Stored s : r.tensors()) {
            long[] sums = types.computeIfAbsent(s.type(), _ -> new long[3]);
            sums[0]++;
            sums[1] += s.count();
            sums[2] += s.bytes();
        }
        types.forEach((type, s) -> table.row(type, s[0], Format.count(s[1]), Format.bytes(s[2]), Format.fixed(8.0 * s[2] / s[1], 3)));
        table.print(System.out);
        System.out.printf("%s: %s, %s bits per weight of the linears, %s per parameter of the whole%n", r.path(), Format.bytes(r.bytes()),
                Format.fixed(r.bitsPerWeight(), 3), Format.fixed(r.bitsPerParameter(), 3));
        r.remarks().forEach(System.out::println);
        if (r.maxScaleMove() > 0) System.out.printf("Steps are stored as fp16: the largest moved by %s of itself.%n", percent(r.maxScaleMove()));
        if (r.maxOffsetMove() > 0) System.out.printf("Minima are stored as fp16: the largest moved by %s of a step.%n", percent(r.maxOffsetMove()));
        if (r.moved() != null) {
            System.out.printf("Rounded again: %s of the linears' weights moved, by %s of their size (root mean square).%n", percent(r.moved().share()), percent(r.moved().rmse()));
        }
        if (proof.weights() > 0) {
            System.out.printf(Locale.ROOT, "Proved: all %,d weights of %d linears read back as (code - zero) x stored step, bit for bit.%n", proof.weights(), model.quantized().size());
        }
        System.out.printf("%s read back within %s of their largest value.%n", r.moved() == null ? "All other tensors" : "All tensors", percent(proof.rest()));
    }

    private static String percent(double share) {
        return String.format(Locale.ROOT, "%.3g%%", 100 * share);
    }
}
