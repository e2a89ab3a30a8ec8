package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.tensor.DType;
import dev.qat.train.Packing;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Round to nearest: every linear on its group's range, nothing trained.
 *
 * @param bits   0 takes the target's, without one 4  @param group elements that share a step; −1 the whole row, 0 the target's, without one 64
 */
public record Rtn(int bits, int group) implements Stage {
    public static final Rtn DEFAULTS = new Rtn(0, 0);

    public Rtn {
        Bits.check(bits);
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        run.reset();
        Model student = run.student();
        try (Packing packing = new Packing(run)) {
            for (Block block : student.blocks()) {
                student.bring(block, DType.F32);
                var quantizers = GroupAffine.install(run.backend(), "steps of block " + block.index, block.linears(), bits, group, run.rule());
                run.use(block.linears(), GroupAffine.freeze(run.backend(), quantizers));
                GroupAffine.free(run.backend().memory(), quantizers);
                student.release(block);
                packing.park();
            }
            packing.use();
        }
    }
}
