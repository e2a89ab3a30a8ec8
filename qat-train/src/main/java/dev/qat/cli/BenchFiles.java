package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.data.GgmlType;
import dev.qat.export.Exports;
import dev.qat.export.Frozen;
import dev.qat.export.LlamaCppLm;
import dev.qat.tensor.Fail;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.LongStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** What a deployed file weighs, and how fast llama.cpp speaks from it. */
@Command(name = "files", mixinStandardHelpOptions = true, description = {
    "One model as GGUF files of several types: bytes, bits per weight, and tokens per second of llama.cpp, one sequence at a time.",
    "The files take turns, and each number is the median of its turns."})
final class BenchFiles implements Callable<Integer> {
    @Option(names = "--model", required = true, paramLabel = "DIR", description = "a model directory; for tq2_0 and other packed types that of a run, such as runs/tequila-tq2/model")
    private Path model;

    @Option(names = "--types", split = ",", defaultValue = "f16,tq2_0", description = "types of the linears (default ${DEFAULT-VALUE})")
    private List<String> types;

    @Option(names = "--tokens", defaultValue = "128", description = "of a turn (default ${DEFAULT-VALUE})")
    private int tokens;

    @Option(names = "--rounds", defaultValue = "5", description = "turns that count, after one that does not (default ${DEFAULT-VALUE})")
    private int rounds;

    @Option(names = "--threads", defaultValue = "0", description = "of llama.cpp; 0 takes every core")
    private int threads;

    @Override
    public Integer call() throws Exception {
        if (tokens < 1 || rounds < 1) throw Fail.usage("bench files: --tokens %d, --rounds %d, expected at least 1", tokens, rounds);
        int cores = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        Path folder = Files.createTempDirectory("qat-bench");
        List<Path> files = new ArrayList<>();
        List<LlamaCppLm> open = new ArrayList<>();
        try (Frozen frozen = Exports.open(model)) {
            long weights = frozen.shapes().values().stream().mapToLong(s -> LongStream.of(s).reduce(1, (a, b) -> a * b)).sum();
            for (String type : types) {
                Path file = folder.resolve(type + ".gguf");
                files.add(file);
                Exports.of("gguf:" + type, Exports.Options.DEFAULT).write(file, frozen);
                open.add(LlamaCppLm.open(file, cores));
            }
            double[][] speeds = measure(open);
            for (int i = 0; i < files.size(); i++) {
                GgmlType type = GgmlType.named(types.get(i)).orElseThrow();
                System.out.println(new ObjectMapper().createObjectNode().put("type", types.get(i)).put("threads", cores).put("bytes", Files.size(files.get(i)))
                        .put("bits_per_weight", Math.rint(8e3 * Files.size(files.get(i)) / weights) / 1e3).put("bits_per_weight_of_linears", 8.0 * type.bytes / type.elements)
                        .put("llama_cpp_tokens_per_second", Math.rint(speeds[i][rounds / 2])).put("times_" + types.getFirst(), Math.rint(1e3 * speeds[i][rounds / 2] / speeds[0][rounds / 2]) / 1e3));
            }
        } finally {
            open.forEach(LlamaCppLm::close);
            for (Path f : files) Files.deleteIfExists(f);
            Files.deleteIfExists(folder);
        }
        return 0;
    }

    /** Tokens per second of every file's turns, ascending. */
    private double[][] measure(List<LlamaCppLm> models) {
        double[][] speeds = new double[models.size()][rounds];
        for (int turn = -1; turn < rounds; turn++) {
            for (int i = 0; i < speeds.length; i++) {
                double speed = tokens / models.get(i).speak(1, tokens);
                if (turn >= 0) speeds[i][turn] = speed;
            }
        }
        for (double[] s : speeds) Arrays.sort(s);
        return speeds;
    }
}
