package dev.qat.method;

import dev.qat.tensor.Fail;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Round to nearest with static ranges, nothing trained: one step per row of every weight, one for all of a linear's input, of the
 * stored keys and of the values, each by a p-norm search ({@link StaticRange}).
 *
 * @param bits W-A-KV, such as 4-8-4; 32 leaves a kind alone  @param p of the search  @param batch windows whose inputs, keys and values are looked at
 */
public record StaticRounding(String bits, double p, int batch, Part windows) implements Stage {
    public static final StaticRounding DEFAULTS = new StaticRounding("4-8-4", 3, 16, Part.ALL);

    public StaticRounding {
        if (!Widths.of(bits).quantizesWeights()) throw Fail.usage("bits = %s: static quantizes weights to 2 to 8 bits", bits);
        Positive.check("batch", batch);
    }

    @Override
    public void run(Run run) {
        run.reset();
        Statics all = new Statics(run, bits, p);
        all.calibrate(batch, windows);
        all.freeze(new Merge(run.backend().memory()), (_, _) -> {});
    }
}
