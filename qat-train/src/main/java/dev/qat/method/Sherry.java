package dev.qat.method;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Sherry (AngelSlim): of every four neighbours the smallest is 0 and the other three are ±1, packed in 5 bits. While it
 * trains, y = x·ŵᵀ + ε·x·wᵀ with ε rising to {@code residual} in the first {@code warmup} of the steps and falling to 0 as a cosine.
 */
public record Sherry(int group, double residual, double warmup, int activations, Course course) implements Stage {
    public static final Sherry DEFAULTS = new Sherry(64, 1, 0.1, 0, Course.DEFAULTS);

    public Sherry {
        if (!(residual >= 0)) throw Fail.usage("residual = %s, expected at least 0", residual);
        if (!(warmup > 0 && warmup < 1)) throw Fail.usage("warmup = %s, expected a share of the steps between 0 and 1", warmup);
    }

    @Override
    public void run(Run run) {
        var memory = run.backend().memory();
        Tensor weight = memory.tensor("residual", 1);
        memory.set(weight, 0f);
        new Ternary(Ternary.Kind.SHERRY, group, activations).run(run, this, course, weight, (step, total) -> memory.set(weight, (float) residual(step, total)));
        memory.free(weight.address);
    }

    double residual(long step, long total) {
        double p = step / (double) Math.max(1, total - 1);
        return residual * (p < warmup ? p / warmup : 0.5 * (1 + Math.cos(Math.PI * (p - warmup) / (1 - warmup))));
    }

    @Override
    public String variant() {
        return course.variant();
    }
}
