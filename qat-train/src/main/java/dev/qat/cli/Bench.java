package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.export.LlamaProducts;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import dev.qat.train.BlockBench;
import dev.qat.train.DecodeBench;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Measures the engine; one JSON line per measurement. */
@Command(name = "bench", versionProvider = Main.Version.class, mixinStandardHelpOptions = true, subcommands = {Bench.BlockAp.class, BenchOps.class, BenchGenerate.class, BenchFiles.class, Bench.Decode.class},
        description = "Measure the engine against its floor.")
final class Bench implements Callable<Integer> {
    @Override
    public Integer call() {
        throw Fail.usage("bench: no benchmark named. Known: block-ap, ops, generate, files, decode");
    }

    @Command(name = "block-ap", mixinStandardHelpOptions = true, description = {
        "The Block-AP step of one random block: seven group-affine linears with trainable weights, steps and zero points; MSE; AdamW.",
        "gemm_floor_ms is 3 times the forward products' operations at the measured speed of a 2048^3 product on the same threads."})
    static final class BlockAp implements Callable<Integer> {
        @Parameters(arity = "8", paramLabel = "N", hideParamSyntax = true, description = "DIM FFN HEADS SEQ BATCH BITS GROUP STEPS, such as 512 1376 8 512 2 2 64 12")
        private int[] shape;

        @Option(names = "--backend", defaultValue = "cpu", description = "cpu, cuda or reference (default ${DEFAULT-VALUE})")
        private String backend;

        @Option(names = "--threads", defaultValue = "0", description = "threads of the cpu backend; 0 takes every core")
        private int threads;

        @Override
        public Integer call() throws Exception {
            for (int n : shape) if (n <= 0) throw Fail.usage("bench block-ap: got %d, expected positive whole numbers", n);
            try (Backend be = Backends.open(backend, threads)) {
                BlockBench.Result r = BlockBench.run(be, new BlockBench.Shape(shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6], shape[7]));
                ObjectMapper json = new ObjectMapper();
                ObjectNode line = json.createObjectNode();
                line.put("ms_per_step", round(r.msPerStep())).put("gemm_floor_ms", round(r.gemmFloorMs())).put("roofline_ms", round(r.rooflineMs())).put("gflop", round(r.gflop()));
                line.put("peak_gflops", round(r.peakGflops())).put("ratio", round(r.ratio()));
                line.set("ms_per_op", json.valueToTree(r.msPerOp()));
                System.out.println(line);
            }
            return 0;
        }

        private static double round(double x) {
            return Math.round(x * 1e3) / 1e3;
        }
    }

    @Command(name = "decode", mixinStandardHelpOptions = true, description = {
        "The products of one decoded token with the linears in fp32, in BF16 and as trits, on the CPU, and by llama.cpp in F16, BF16 and TQ2_0.",
        "Choose a shape whose linears are far larger than the caches."})
    static final class Decode implements Callable<Integer> {
        @Parameters(arity = "2", paramLabel = "N", hideParamSyntax = true, description = "WIDTH MATRICES: a token passes so many square matrices, such as 4096 14")
        private int[] shape;

        @Option(names = "--group", defaultValue = "256", description = "weights that share a scale (default ${DEFAULT-VALUE})")
        private int group;

        @Option(names = "--turns", defaultValue = "15", description = "tokens timed in each storage (default ${DEFAULT-VALUE})")
        private int turns;

        @Option(names = "--threads", defaultValue = "0", description = "0 takes every core")
        private int threads;

        @Override
        public Integer call() {
            if (shape[0] < 64 || shape[0] % 64 != 0 || shape[1] < 1 || turns < 1) throw Fail.usage("bench decode: got %d %d, expected a multiple of 64 and at least one matrix", shape[0], shape[1]);
            if (group < 64 || shape[0] % group != 0 || group % 64 != 0) throw Fail.usage("--group %d, expected a multiple of 64 that divides %d", group, shape[0]);
            try (CpuBackend be = new CpuBackend(threads); LlamaProducts llama = llama()) {
                var rows = DecodeBench.run(be, new DecodeBench.Shape(shape[0], shape[1], group, turns), llama);
                double bf16 = rows.get(1).seconds();
                ObjectMapper json = new ObjectMapper();
                for (DecodeBench.Row r : rows) {
                    System.out.println(json.createObjectNode().put("storage", r.storage()).put("tokens_per_second", BlockAp.round(r.tokensPerSecond()))
                            .put("ms_per_token", BlockAp.round(1e3 * r.seconds())).put("gigabytes", BlockAp.round(r.bytes() * 1e-9))
                            .put("gigabytes_per_second", BlockAp.round(r.bytes() * 1e-9 / r.seconds())).put("times_bf16", BlockAp.round(bf16 / r.seconds())));
                }
            }
            return 0;
        }

        /** Null, and a line that says why, where llama.cpp does not run. */
        private static LlamaProducts llama() {
            try {
                return new LlamaProducts();
            } catch (Fail e) {
                System.err.println("qat: without llama.cpp: " + e.getMessage());
                return null;
            }
        }
    }
}
