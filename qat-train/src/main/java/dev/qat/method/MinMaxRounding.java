package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.tensor.DType;
import dev.qat.train.Packing;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Round to nearest of weights, activations and KV cache by LLM-QAT's quantizers, nothing trained: what {@link LlmQat} starts from.
 *
 * @param bits W-A-KV, such as 4-8-4  @param group inputs of a weight row that share a scale; −1 for the whole row
 * @param heads gives every head of a token's keys and of its values a scale of its own  @param asymmetric gives every token an offset as well
 */
public record MinMaxRounding(String bits, int group, boolean heads, boolean asymmetric) implements Stage {
    public static final MinMaxRounding DEFAULTS = new MinMaxRounding("4-8-4", -1, false, false);

    public MinMaxRounding {
        Widths.of(bits);
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        Widths widths = Widths.of(bits);
        MinMax quantizers = MinMax.install(run, widths, group, widths.tokens(heads, asymmetric, false));
        if (!widths.quantizesWeights()) {
            run.student().bring();
            return;
        }
        try (Packing packing = new Packing(run)) {
            for (Block block : run.student().blocks()) {
                run.student().bring(block, DType.F32);
                quantizers.freeze(block.linears());
                run.student().release(block);
                packing.park();
            }
            packing.use();
        }
    }
}
