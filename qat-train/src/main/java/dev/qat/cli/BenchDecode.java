package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.export.LlamaProducts;
import dev.qat.tensor.Fail;
import dev.qat.train.DecodeBench;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(name = "decode", mixinStandardHelpOptions = true, description = {
    "The products of one decoded token with the linears in fp32, in BF16 and as trits, on the CPU, and by llama.cpp in F16, BF16 and TQ2_0.",
    "Choose a shape whose linears are far larger than the caches."})
final class BenchDecode implements Callable<Integer> {
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
                System.out.println(json.createObjectNode().put("storage", r.storage()).put("tokens_per_second", Bench.round(r.tokensPerSecond()))
                        .put("ms_per_token", Bench.round(1e3 * r.seconds())).put("gigabytes", Bench.round(r.bytes() * 1e-9))
                        .put("gigabytes_per_second", Bench.round(r.bytes() * 1e-9 / r.seconds())).put("times_bf16", Bench.round(bf16 / r.seconds())));
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
