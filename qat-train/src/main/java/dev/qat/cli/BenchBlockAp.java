package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.BlockBench;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

@Command(name = "block-ap", mixinStandardHelpOptions = true, description = {
    "The Block-AP step of one random block: seven group-affine linears with trainable weights, steps and zero points; MSE; AdamW.",
    "gemm_floor_ms is 3 times the forward products' operations at the measured speed of a 2048^3 product on the same threads;",
    "heap_mb is what a step allocates as Java objects: next to nothing, unless the compiler boxes vectors."})
final class BenchBlockAp implements Callable<Integer> {
    @Parameters(arity = "8", paramLabel = "N", hideParamSyntax = true, description = "DIM FFN HEADS SEQ BATCH BITS GROUP STEPS, such as 512 1376 8 512 2 2 64 12")
    private int[] shape;

    @Mixin
    private Bench.Engine engine;

    @Override
    public Integer call() throws Exception {
        for (int n : shape) if (n <= 0) throw Fail.usage("bench block-ap: got %d, expected positive whole numbers", n);
        try (Backend be = engine.open()) {
            BlockBench.Result r = BlockBench.run(be, new BlockBench.Shape(shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6], shape[7]));
            ObjectMapper json = new ObjectMapper();
            ObjectNode line = json.createObjectNode();
            line.put("ms_per_step", Bench.round(r.msPerStep())).put("gemm_floor_ms", Bench.round(r.gemmFloorMs())).put("roofline_ms", Bench.round(r.rooflineMs())).put("gflop", Bench.round(r.gflop()));
            line.put("peak_gflops", Bench.round(r.peakGflops())).put("ratio", Bench.round(r.ratio())).put("heap_mb", Bench.round(r.heapMb()));
            line.set("ms_per_op", json.valueToTree(r.msPerOp()));
            System.out.println(line);
        }
        return 0;
    }
}
