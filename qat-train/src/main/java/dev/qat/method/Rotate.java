package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import java.util.Arrays;

/**
 * QuaRot's rotations that can be merged (arXiv 2404.00456): a random Hadamard matrix turns the residual stream, and one the values
 * of every head, so that no channel stands out. Norm gains are folded first and a tied head gets a matrix of its own; what is
 * computed stays, nothing is left to do at inference. The online rotations (queries and keys after rope, the input of down) are
 * not part of it. Where no Hadamard matrix of the size is known the rotation is a random orthogonal one.
 *
 * @param residual turns the residual stream  @param values turns every head's values
 */
public record Rotate(boolean residual, boolean values) implements Stage {
    public static final Rotate DEFAULTS = new Rotate(true, true);

    @Override
    public void run(Run run) {
        run.reset();
        Model m = run.student();
        m.untie();
        if (!run.planned()) fold(m, run.recipe().seed());
        m.keep();
    }

    void fold(Model m, long seed) {
        Merge to = new Merge(m.memory());
        Folds.gains(to, m);
        if (residual) Folds.residual(to, m, Hadamard.randomized(m.config.C(), seed, 0));
        for (Block b : m.blocks()) {
            if (!values) continue;
            double[][] same = new double[m.config.K()][];
            Arrays.fill(same, Hadamard.randomized(m.config.D(), seed, 1 + b.index));
            Folds.values(to, b, m.config, same);
        }
        to.store();
    }
}
