package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;

/**
 * The first phase of FPTQuant (arXiv 2506.04985): function-preserving transforms T_k, T_v and T_u of every block, optimized without
 * data for the smallest p-norms of the weights and merged, after the residual was turned by a random Hadamard matrix (T_r, which
 * {@link FptQuant} can train); then T_d, Hadamard blocks on down's input, and S_n, which cannot be merged. What follows quantizes the result.
 *
 * @param p        the norm; the paper has 4  @param steps of Adam per block; the official 200  @param rate the official 0.01
 * @param residual turns the residual stream first, which needs a head of its own
 * @param down     turns down's input while the model computes; other engines refuse such a model
 * @param dynamic  scales o's and down's inputs by each token's residual while the model computes ({@link ModelConfig.Online});
 *                 where the paper scales in each experiment is not published
 */
public record FptLocal(double p, int steps, double rate, boolean residual, boolean down, boolean dynamic) implements Stage {
    public static final FptLocal DEFAULTS = new FptLocal(4, 200, 0.01, true, false, false);

    public FptLocal {
        if (p < 1) throw Fail.usage("p = %s, expected a norm's exponent of at least 1", p);
        Positive.check("steps", steps);
    }

    @Override
    public void run(Run run) {
        run.reset();
        Model m = run.student();
        if (residual) {
            m.untie();
            if (!run.planned()) new Rotate(true, false, false).fold(m, run.recipe().seed());
        }
        try (Watch.Job job = run.watch().job("fpt-local", m.blocks().size())) {
            for (Block b : m.blocks()) {
                if (run.planned()) continue;
                Merge weights = new Merge(m.memory());
                LocalNorms norms = new LocalNorms(m.config, weights, b, p);
                List<MemorySegment> found = run.once("fpt-local", b.index, 8L * norms.parameters().length, () -> {
                    double[] losses = norms.train(steps, rate, () -> run.pause("fpt-local", b.index));
                    return List.of(MemorySegment.ofArray(norms.parameters()), MemorySegment.ofArray(new double[] {losses[0], losses[losses.length - 1]}));
                });
                MemorySegment.ofArray(norms.parameters()).copyFrom(found.getFirst());
                norms.merge(weights, b);
                weights.store();
                double[] ends = found.getLast().toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED);
                job.step(b.index + 1, "block %d: norms %.4g -> %.4g".formatted(b.index, ends[0], ends[1]));
            }
        }
        if (down || dynamic) Rotate.online(m, run.planned(), new ModelConfig.Online(down ? Hadamard.block(m.config.F()) : 0, 0, 0, dynamic));
        m.keep();
    }
}
