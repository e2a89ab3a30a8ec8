package dev.qat.method;

import dev.qat.train.Run;
import dev.qat.train.Stage;

/** Ternary weight networks (arXiv 1605.04711): trits of |w| ≥ ¾ mean |w|, at the mean of those. Parameters as {@link AbsMean}'s. */
public record Twn(int group, int activations, Course course) implements Stage {
    public static final Twn DEFAULTS = new Twn(64, 0, Course.DEFAULTS);

    @Override
    public void run(Run run) {
        new Ternary(Ternary.Kind.TWN, group, activations).run(run, this, course);
    }

    @Override
    public String variant() {
        return course.variant();
    }
}
