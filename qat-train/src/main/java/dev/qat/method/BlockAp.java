package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.train.AdamW;
import dev.qat.train.Blockwise;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.List;

/**
 * Block-wise training of all parameters, the first phase of EfficientQAT (arXiv 2407.11062 §3.2): weights, steps, zero points
 * and norm gains of one block against the full-precision block's output, AdamW without decay or clipping, cosine to a twentieth.
 *
 * @param bits       0 takes the target's, without one 4  @param group −1 for the whole row; 0 takes the target's, without one 64
 * @param weightRate of weights and norm gains; 0 takes the official 2e-5 at 2 bits, else 1e-5
 * @param scaleRate  of steps and zero points  @param floor the last rate as a share of the first
 * @param windows the windows to train on: all, the user's text, or the model's own samples
 * @param shuffle    draws the batches of every epoch in a new order; the official code always takes the text's
 */
public record BlockAp(int bits, int group, int epochs, int batch, double weightRate, double scaleRate, double floor, Part windows, boolean shuffle) implements Stage {
    public static final BlockAp DEFAULTS = new BlockAp(0, 0, 2, 2, 0, 1e-4, 0.05, Part.ALL, false);

    public BlockAp {
        Bits.check(bits);
        Positive.check("epochs", epochs);
        Positive.check("batch", batch);
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        double rate = weightRate > 0 ? weightRate : run.rule().bits(bits) == 2 ? 2e-5 : 1e-5;
        Blockwise.codes(run, "block-ap", new Blockwise.Config(epochs, 0, batch, rate, new Schedule(Schedule.Shape.COSINE, 0, floor),
                AdamW.Config.DEFAULTS, windows, shuffle), new Training(run, rate));
    }

    /** All weights and gains of a block, with a group-affine quantizer on every linear. */
    private final class Training implements Blockwise.Method {
        private final Run run;
        private final double rate;
        private List<GroupAffine> quantizers;

        Training(Run run, double rate) {
            this.run = run;
            this.rate = rate;
        }

        @Override
        public List<AdamW.Group> prepare(Block block) {
            quantizers = GroupAffine.install(run.backend(), "steps of block " + block.index, block.linears(), bits, group, run.rule());
            return GroupAffine.training(List.of(block), quantizers, rate, scaleRate);
        }

        @Override
        public void finish(Block block) {
            run.use(block.linears(), GroupAffine.freeze(run.backend(), quantizers));
            GroupAffine.free(run.backend().memory(), quantizers);
            run.student().release(block);
        }
    }
}
