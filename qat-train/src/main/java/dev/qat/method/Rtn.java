package dev.qat.method;

import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Round to nearest: every linear on its group's range, nothing trained.
 *
 * @param group elements that share a step; −1 for the whole row
 */
public record Rtn(int bits, int group) implements Stage {
    public static final Rtn DEFAULTS = new Rtn(4, 64);

    public Rtn {
        Bits.check(bits);
    }

    @Override
    public void run(Run run) {
        run.reset();
        var quantizers = GroupAffine.install(run.backend(), "steps", run.student().linears(), bits, group);
        run.use(quantizers, GroupAffine.freeze(run.backend(), quantizers));
        GroupAffine.free(run.backend().memory(), quantizers);
    }
}
