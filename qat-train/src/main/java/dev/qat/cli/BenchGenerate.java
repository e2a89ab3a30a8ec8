package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.CausalLm;
import dev.qat.data.Generation;
import dev.qat.data.HfModelDir;
import dev.qat.data.SelfGenerator;
import dev.qat.export.Exports;
import dev.qat.export.Frozen;
import dev.qat.export.LlamaCppLm;
import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.Site;
import dev.qat.ops.Backend;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import dev.qat.train.ModelLm;
import dev.qat.train.PackedDecoding;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** How fast a model speaks in batches, against llama.cpp with the same model in F32, one sequence after the other. */
@Command(name = "generate", mixinStandardHelpOptions = true, description = {
    "Tokens per second of 'qat generate' in batches and of one sequence at a time, and of llama.cpp (F32, one sequence after the other) on the same threads.",
    "The three take turns, and each number is the median of its turns. A ternary run's model is then decoded from its packed trits as well."})
final class BenchGenerate implements Callable<Integer> {
    @Option(names = "--model", required = true, paramLabel = "DIR", description = "a Hugging Face directory, such as examples/models/shakespeare-3m")
    private Path model;

    @Option(names = "--batch", defaultValue = "64", description = "sequences side by side (default ${DEFAULT-VALUE})")
    private int batch;

    @Option(names = "--length", defaultValue = "256", description = "tokens of a sequence (default ${DEFAULT-VALUE})")
    private int length;

    @Option(names = "--rounds", defaultValue = "5", description = "turns that count, after one that does not (default ${DEFAULT-VALUE})")
    private int rounds;

    @Option(names = "--threads", defaultValue = "0", description = "threads of either; 0 takes every core")
    private int threads;

    @Option(names = "--kv-bits", defaultValue = "0", description = "also decode with keys and values rounded to so many bits: as whole numbers, and as floats of the same values")
    private int kvBits;

    @Override
    public Integer call() throws Exception {
        if (batch < 1 || length < 2 || rounds < 1) throw Fail.usage("bench generate: --batch %d, --length %d, --rounds %d, expected at least 1, 2 and 1", batch, length, rounds);
        int cores = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        Path folder = Files.createTempDirectory("qat-bench"), gguf = folder.resolve("model.gguf");
        try (HfModelDir source = HfModelDir.open(model); Frozen frozen = Exports.open(model); Backend backend = Backends.open("cpu", cores)) {
            Exports.of("gguf:f32", Exports.Options.DEFAULT).write(gguf, frozen);
            Model m = Model.load(source, backend.memory());
            ModelLm lm = new ModelLm(m, backend);
            ObjectNode line = new ObjectMapper().createObjectNode().put("threads", cores).put("batch", batch).put("length", length);
            try (LlamaCppLm llama = LlamaCppLm.open(gguf, cores); SelfGenerator many = generator(lm, batch, length); SelfGenerator one = generator(lm, 1, Math.min(length, 64))) {
                report(line, measure(llama, many, one));
            }
            if (PackedDecoding.use(m, model, backend) > 0) {
                try (SelfGenerator many = generator(lm, batch, length); SelfGenerator one = generator(lm, 1, Math.min(length, 64))) {
                    line.put("packed_trits", Math.rint(median(many))).put("packed_trits_one_sequence", Math.rint(median(one)));
                }
            }
            if (kvBits > 0) integers(line, m, backend);
            System.out.println(line);
        } finally {
            Files.deleteIfExists(gguf);
            Files.deleteIfExists(folder);
        }
        return 0;
    }

    /** Every shard is a full batch of sequences that only end at their length. */
    private static SelfGenerator generator(ModelLm lm, int batch, int length) {
        return new SelfGenerator(lm, new Generation(Generation.Mode.HYBRID, Integer.MAX_VALUE / 2, length, 3, 5, 1, 50, 1, batch, batch).resolved(lm.vocabulary(), lm.context()), 1, new int[0]);
    }

    /** Tokens per second: batches, one at a time, llama.cpp. */
    private double[] measure(LlamaCppLm llama, SelfGenerator many, SelfGenerator one) {
        double[][] speeds = new double[3][rounds];
        for (int i = -1; i < rounds; i++) {
            double[] turn = {speed(many, i + 1), speed(one, i + 1), length / llama.speak(i + 2, length)};
            if (i >= 0) for (int k = 0; k < 3; k++) speeds[k][i] = turn[k];
        }
        return Arrays.stream(speeds).mapToDouble(s -> Arrays.stream(s).sorted().toArray()[rounds / 2]).toArray();
    }

    /** Tokens per second, the median of the rounds after one that does not count. */
    private double median(SelfGenerator g) {
        speed(g, 0);
        double[] speeds = new double[rounds];
        for (int i = 0; i < rounds; i++) speeds[i] = speed(g, i + 1);
        return Arrays.stream(speeds).sorted().toArray()[rounds / 2];
    }

    private static double speed(SelfGenerator g, int shard) {
        long[] tokens = {0};
        long start = System.nanoTime();
        g.shard(shard, n -> tokens[0] = n);
        return tokens[0] / ((System.nanoTime() - start) * 1e-9);
    }

    private static void report(ObjectNode line, double[] speed) {
        line.put("tokens_per_second", Math.rint(speed[0])).put("one_sequence", Math.rint(speed[1])).put("llama_cpp_f32", Math.rint(speed[2]));
        line.put("ratio_to_llama_cpp", Math.rint(100 * speed[0] / speed[2]) / 100).put("ratio_to_one_sequence", Math.rint(100 * speed[0] / speed[1]) / 100);
    }

    /** The same batch from a cache of whole numbers and from one of floats: bytes, and whether every token is the same. */
    private void integers(ObjectNode line, Model m, Backend backend) {
        for (Block b : m.blocks()) {
            b.keySite.add(new Site.Rows(new RowGrid(kvBits, true, false), 1));
            b.valueSite.add(new Site.Rows(new RowGrid(kvBits, true, false), 1));
        }
        int[][][] said = new int[2][][];
        for (int i = 0; i < 2; i++) {
            ModelLm lm = new ModelLm(m, backend, i == 1);
            long start = System.nanoTime();
            try (SelfGenerator g = generator(lm, batch, length)) {
                said[i] = g.shard(0, _ -> {});
            }
            try (CausalLm.Decoder d = lm.decoder(batch, length, Sampling.GREEDY)) {
                String kind = i == 0 ? "float" : "integer";
                line.put(kind + "_cache_bytes", d.cacheBytes()).put(kind + "_cache_tokens_per_second", Math.rint((long) batch * length / ((System.nanoTime() - start) * 1e-9)));
            }
        }
        line.put("kv_bits", kvBits).put("same_tokens", Arrays.deepEquals(said[0], said[1]));
    }
}
