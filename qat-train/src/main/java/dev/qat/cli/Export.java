package dev.qat.cli;

import dev.qat.data.CausalLm;
import dev.qat.data.HfModelDir;
import dev.qat.data.SelfSampler;
import dev.qat.data.Windows;
import dev.qat.export.Deployment;
import dev.qat.export.Exports;
import dev.qat.export.Proof;
import dev.qat.export.Report;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import dev.qat.train.ModelLm;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
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
            description = "hf, gptq, gptq-v2, awq, compressed-tensors (with :bf16 for a model that runs in it), or gguf:TYPE with f32, f16, q4_0, q4_1, q8_0, tq1_0, tq2_0, q2_0, q2_k.")
    private String target;

    @Option(names = "--out", paramLabel = "PATH", description = "The file or directory to write; else one in RUNDIR/export.")
    private Path out;

    @Option(names = "--embeddings", paramLabel = "TYPE", defaultValue = "f16", description = "How GGUF stores embedding and head: f16, q8_0 or q6_k.")
    private String embeddings;

    @Option(names = "--requantize", description = "Round the weights again where the trained codes do not fit; says how much moves.")
    private boolean requantize;

    @Option(names = "--usual", description = "Write beside it what the usual way makes of the same run, the weights rounded again by llama.cpp, and compare the two.")
    private boolean usual;

    @Option(names = "--shard-size", paramLabel = "SIZE", defaultValue = "5GB", description = "The most that one file of a directory holds: 500MB, 5GB (default).")
    private String shardSize;

    @Option(names = "--samples-of", paramLabel = "DIR", description = "The model whose own text both engines read; else the run's.")
    private Path speaker;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "backend, threads, windows, length: of our own engine, and of what it and llama.cpp read of a GGUF file.")
    private List<String> words = List.of();

    /** @param backend auto, cpu, cuda or reference  @param threads of the CPU backend; 0 takes every core  @param windows  @param length of text to read */
    record Settings(String backend, int threads, int windows, int length) {
        static final Settings DEFAULTS = new Settings("auto", 0, 8, 128);

        Settings {
            if (windows < 1 || length < 2) throw Fail.usage("windows = %d, length = %d, expected at least 1 and 2", windows, length);
        }
    }

    private static final Pattern SIZE = Pattern.compile("(\\d{1,9})\\s*([KMG]B)", Pattern.CASE_INSENSITIVE);
    private static final List<String> MINIMA = List.of("gguf:q4_1", "gguf:q2_k");
    private static final int BATCH = 64;
    private static final long SEED = 0x7175616E74L; // not a recipe's, so that no window was trained on

    @Override
    public Integer call() {
        Settings s = RecipeReader.words("export", words, Settings.class);
        Exports.Options options = Exports.Options.of("--embeddings", embeddings, requantize).shards(bytes("--shard-size", shardSize));
        Exports.of(target, options);
        if (usual && !target.startsWith("gguf:q")) throw Fail.usage("--usual compares with what llama.cpp rounds weights to: take --target gguf:q4_0, gguf:q4_1 or gguf:q8_0");
        Path path = place();
        try (Backend backend = Backends.open(s.backend, s.threads)) {
            Windows windows = target.startsWith("gguf:") ? sampled(backend, s) : null;
            Deployment exact = Deployment.of(run, target, options, path, windows, backend);
            print(exact);
            if (usual) compare(exact, Deployment.usual(run, target, options, path.resolveSibling("usual-" + path.getFileName()), windows, backend));
        }
        return 0;
    }

    /** Decimal, as transformers counts them. */
    private static long bytes(String option, String size) {
        Matcher m = SIZE.matcher(size);
        if (!m.matches()) throw Fail.usage("%s %s, expected a size such as 500MB or 5GB", option, size);
        return Long.parseLong(m.group(1)) * switch (m.group(2).toUpperCase(Locale.ROOT)) {
            case "KB" -> 1_000L;
            case "MB" -> 1_000_000L;
            default -> 1_000_000_000L;
        };
    }

    /** What --out says, or a place in RUNDIR/export. */
    private Path place() {
        if (!Files.isDirectory(run.resolve("model"))) throw Fail.usage("%s: no model in it; give the directory of a finished run", run);
        // a place of the user's own may hold anything, so nothing there is replaced
        if (out != null && Files.exists(out)) throw Fail.usage("%s already exists; choose another place with --out", out);
        return out != null ? out : Deployment.place(run, target);
    }

    /** Texts of a model's own, for two engines to read; without a BOS to begin with, all tokens in turn. */
    private Windows sampled(Backend backend, Settings s) {
        try (HfModelDir source = HfModelDir.open(speaker != null ? speaker : run.resolve("model")); CausalLm lm = new ModelLm(Model.load(source, backend.memory()), backend)) {
            int bos = source.specialIds().bos(), length = Math.min(s.length, lm.context() - 1);
            if (bos >= 0) return Windows.separate(SelfSampler.sample(lm, bos, 0, s.windows, length + 1, Math.min(BATCH, s.windows), new Sampling(1, 0, 1, SEED), _ -> {}), length);
            return Windows.train(java.util.stream.IntStream.range(0, s.windows * length + 1).map(i -> i % lm.vocabulary()).toArray(), length);
        }
    }

    private static void compare(Deployment exact, Deployment usual) {
        Table table = new Table(Table.text("the run"), Table.number("weights moved"), Table.number("by"), Table.number("perplexity"), Table.number("llama.cpp's"), Table.number("bytes"));
        for (Deployment d : List.of(exact, usual)) {
            Report.Moved m = d.report().moved() == null ? new Report.Moved(0, 0) : d.report().moved();
            Deployment.Engines e = d.engines().orElseThrow();
            table.row(d == exact ? "export-exact" : "rounded again", percent(m.share()), percent(m.rmse()), Format.fixed(e.ours(), 4),
                    e.missing().isEmpty() ? Format.fixed(e.theirs(), 4) : "skipped", d.report().bytes());
        }
        System.out.println();
        table.print(System.out);
        System.out.println("The second file: " + usual.report().path());
    }

    static void print(Deployment d) {
        Report r = d.report();
        Proof proof = d.proof();
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
        if (r.maxScaleMove() > 0) System.out.printf("Steps are stored as %s: the largest moved by %s of itself.%n", r.target().endsWith("bf16") ? "bf16" : "fp16", percent(r.maxScaleMove()));
        if (r.maxOffsetMove() > 0) System.out.printf("Minima are stored as fp16: the largest moved by %s of a step.%n", percent(r.maxOffsetMove()));
        if (r.moved() != null) {
            System.out.printf("Rounded again: %s of the linears' weights moved, by %s of their size (root mean square).%n", percent(r.moved().share()), percent(r.moved().rmse()));
        }
        if (proof.weights() > 0) {
            String form = MINIMA.contains(r.target()) ? "code x stored step + stored minimum" : "(code - zero) x stored step";
            System.out.printf(Locale.ROOT, "Proved: all %,d weights of %d linears read back as %s, bit for bit.%n", proof.weights(), d.linears(), form);
        }
        System.out.printf("%s read back within %s of their largest value.%n", r.moved() == null ? "All other tensors" : "All tensors", percent(proof.rest()));
        d.engines().ifPresent(Export::print);
    }

    private static void print(Deployment.Engines e) {
        String read = "%d windows of %d tokens".formatted(e.windows(), e.length());
        if (!e.missing().isEmpty()) {
            System.out.printf(Locale.ROOT, "Perplexity of %s: %.5f by this engine. SKIPPED: llama.cpp did not judge the file: %s%n", read, e.ours(), e.missing());
            return;
        }
        System.out.printf(Locale.ROOT, "Perplexity of %s: %.5f by this engine, %.5f by llama.cpp, %s apart%s%n", read, e.ours(), e.theirs(), percent(e.apart()),
                e.agree() ? "." : ". WARNING: that is more than its 8-bit activations explain.");
    }

    private static String percent(double share) {
        return String.format(Locale.ROOT, "%.3g%%", 100 * share);
    }
}
