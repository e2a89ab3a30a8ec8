package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import java.util.Arrays;

/**
 * QuaRot's rotations (arXiv 2404.00456): a random Hadamard matrix turns the residual stream, and one the values of every head, so
 * that no channel stands out. Norm gains are folded first and a tied head gets a matrix of its own; what is computed stays. Where no
 * Hadamard matrix of the size is known the rotation is a random orthogonal one.
 *
 * <p>These merge. {@code online} adds those that cannot, without which inputs of o and down and keys keep their outliers: Hadamard
 * matrices on down's input, across the heads at o's input, and on every head's queries and keys after rope, where the cache is quantized
 * then. They turn blocks of the largest power of two that divides channels or heads; the official ones reach over all.
 *
 * @param residual turns the residual stream  @param values turns every head's values  @param online turns inputs of o and down, queries and keys
 */
public record Rotate(boolean residual, boolean values, boolean online) implements Stage {
    public static final Rotate DEFAULTS = new Rotate(true, true, false);

    @Override
    public void run(Run run) {
        run.reset();
        Model m = run.student();
        m.untie();
        if (!run.planned()) fold(m, run.recipe().seed());
        ModelConfig c = m.config;
        if (online) online(m, run.planned(), new ModelConfig.Online(Hadamard.block(c.F()), Hadamard.block(c.D()), Hadamard.block(c.H()), false));
        m.keep();
    }

    /** Has the model turn channels and scale rows on their way, weights of down and o turned to match. */
    static void online(Model m, boolean planned, ModelConfig.Online online) {
        if (!m.config.online().equals(ModelConfig.Online.NONE)) {
            throw Fail.usage("this model turns or scales channels on their way already, by an earlier stage or as it was read. Leave online (of fpt-local: down, dynamic) out of one of the stages, or put original between them.");
        }
        m.turn(online);
        if (planned || online.down() == 0 && online.across() == 0) return;
        Merge to = new Merge(m.memory());
        for (Block b : m.blocks()) {
            Folds.down(to, b, online.down());
            Folds.across(to, b, m.config, online.across());
        }
        to.store();
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
