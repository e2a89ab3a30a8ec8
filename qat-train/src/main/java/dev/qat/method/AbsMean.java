package dev.qat.method;

import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * BitNet b1.58's quantizer (arXiv 2402.17764) on a trained model: a scale of mean |w| per group, trits of |w| ≥ half of it.
 *
 * @param group       weights that share a scale; −1 for a row, −2 for a matrix as in the paper
 * @param activations bits of every linear's input, per token; 8 in the paper, 0 for none
 */
public record AbsMean(int group, int activations, Course course) implements Stage {
    public static final AbsMean DEFAULTS = new AbsMean(64, 0, Course.DEFAULTS);

    @Override
    public void run(Run run) {
        new Ternary(Ternary.Kind.ABSMEAN, group, activations).run(run, this, course);
    }

    @Override
    public String variant() {
        return course.variant();
    }
}
