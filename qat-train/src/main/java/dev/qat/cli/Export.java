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
            description = "hf, gptq, gptq-v2, awq, compressed-tensors, or gguf:TYPE with f32, f16, q4_0, q4_1, q8_0, tq1_0, tq2_0, q2_0, q2_k.")
    private String target;

    @Option(names = "--out", paramLabel = "PATH", description = "The file or directory to write; else one in RUNDIR/export.")
    private Path out;

    @Option(names = "--embeddings", paramLabel = "TYPE", defaultValue = "f16", description = "How GGUF stores embedding and head: f16, q8_0 or q6_k.")
    private String embeddings;

    @Option(names = "--requantize", description = "Round the weights again where the trained codes do not fit; says how much moves.")
    private boolean requantize;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "backend, threads: where our own engine runs a GGUF file beside llama.cpp.")
    private List<String> words = List.of();

    /** @param backend auto, cpu, cuda or reference  @param threads of the CPU backend; 0 takes every core */
    record Settings(String backend, int threads) {
        static final Settings DEFAULTS = new Settings("auto", 0);
    }

    private static final int SAMPLES = 8, LENGTH = 128;

    @Override
    public Integer call() {
        Settings s = RecipeReader.words("export", words, Settings.class);
        Exports.Options options = Exports.Options.of("--embeddings", embeddings, requantize);
        Exports.of(target, options);
        Path path = place();
        try (Backend backend = Backends.open(s.backend, s.threads)) {
            print(Deployment.of(run, target, options, path, target.startsWith("gguf:") ? sampled(backend) : null, backend));
        }
        return 0;
    }

    /** What --out says, or a place in RUNDIR/export. */
    private Path place() {
        if (!Files.isDirectory(run.resolve("model"))) throw Fail.usage("%s: no model in it; give the directory of a finished run", run);
        // a place of the user's own may hold anything, so nothing there is replaced
        if (out != null && Files.exists(out)) throw Fail.usage("%s already exists; choose another place with --out", out);
        return out != null ? out : Deployment.place(run, target);
    }

    /** A few texts of the model's own, for two engines to read; without a BOS to begin with, one text of all tokens in turn. */
    private Windows sampled(Backend backend) {
        try (HfModelDir source = HfModelDir.open(run.resolve("model")); CausalLm lm = new ModelLm(Model.load(source, backend.memory()), backend)) {
            int bos = source.specialIds().bos(), length = Math.min(LENGTH, lm.context() - 1);
            if (bos >= 0) return Windows.separate(SelfSampler.sample(lm, bos, 0, SAMPLES, length + 1, SAMPLES, new Sampling(1, 0, 1, 1), _ -> {}), length);
            return Windows.train(java.util.stream.IntStream.range(0, SAMPLES * length + 1).map(i -> i % lm.vocabulary()).toArray(), length);
        }
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
        if (r.maxScaleMove() > 0) System.out.printf("Steps are stored as fp16: the largest moved by %s of itself.%n", percent(r.maxScaleMove()));
        if (r.maxOffsetMove() > 0) System.out.printf("Minima are stored as fp16: the largest moved by %s of a step.%n", percent(r.maxOffsetMove()));
        if (r.moved() != null) {
            System.out.printf("Rounded again: %s of the linears' weights moved, by %s of their size (root mean square).%n", percent(r.moved().share()), percent(r.moved().rmse()));
        }
        if (proof.weights() > 0) {
            System.out.printf(Locale.ROOT, "Proved: all %,d weights of %d linears read back as (code - zero) x stored step, bit for bit.%n", proof.weights(), d.linears());
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
