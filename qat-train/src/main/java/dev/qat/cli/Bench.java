package dev.qat.cli;

import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Measures the engine; one JSON line per measurement. */
@Command(name = "bench", versionProvider = Main.Version.class, mixinStandardHelpOptions = true, subcommands = {BenchBlockAp.class, BenchOps.class, BenchGenerate.class, BenchFiles.class, BenchDecode.class},
        description = "Measure the engine against its floor.")
final class Bench implements Callable<Integer> {
    @Override
    public Integer call() {
        throw Fail.usage("bench: no benchmark named. Known: block-ap, ops, generate, files, decode");
    }

    /** What a benchmark of ours runs on. */
    static final class Engine {
        @Option(names = "--backend", defaultValue = "cpu", description = "cpu, cuda or reference (default ${DEFAULT-VALUE})")
        private String backend;

        @Option(names = "--threads", defaultValue = "0", description = "threads of the cpu backend; 0 takes every core")
        private int threads;

        Backend open() {
            return Backends.open(backend, threads);
        }
    }

    /** To three places, as numbers are printed. */
    static double round(double x) {
        return Math.round(x * 1e3) / 1e3;
    }
}
