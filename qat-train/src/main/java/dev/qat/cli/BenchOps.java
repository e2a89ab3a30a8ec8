package dev.qat.cli;

import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.OpBench;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

@Command(name = "ops", mixinStandardHelpOptions = true, description = {
    "Every op alone at one model's shapes: milliseconds, what it reaches, and its share of what bounds it.",
    "The ceilings are measured here: the speed of the largest product (row linear) and of a copy (row copy)."})
final class BenchOps implements Callable<Integer> {
    @Parameters(arity = "7", paramLabel = "N", hideParamSyntax = true, description = "TOKENS DIM FFN HEADS VOCABULARY GROUP RUNS, such as 2048 4096 11008 32 32000 64 20")
    private int[] shape;

    @Mixin
    private Bench.Engine engine;

    @Override
    public Integer call() {
        for (int n : shape) if (n <= 0) throw Fail.usage("bench ops: got %d, expected positive whole numbers", n);
        if (shape[1] % shape[3] != 0 || shape[1] % shape[5] != 0) {
            throw Fail.usage("bench ops: DIM = %d, expected a multiple of HEADS = %d and of GROUP = %d", shape[1], shape[3], shape[5]);
        }
        try (Backend be = engine.open()) {
            Table table = new Table(Table.text("op"), Table.number("ms"), Table.number("TFLOP/s"), Table.number("GB/s"), Table.number("of its bound"));
            for (OpBench.Row r : OpBench.run(be, new OpBench.Shape(shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6]))) {
                table.row(r.op(), "%.3f".formatted(r.ms()), "%.2f".formatted(r.tflops()), "%.1f".formatted(r.gigabytesPerSecond()), "%.0f%%".formatted(100 * r.share()));
            }
            table.print(System.out);
        }
        return 0;
    }
}
