package dev.qat.method;

import dev.qat.train.Run;
import dev.qat.train.Stage;

/** Learned step size quantization (arXiv 1902.08153) on the codes −1, 0, 1, a step per group, begun at 2 mean |w|. */
public record LsqTernary(int group, int activations, Course course) implements Stage {
    public static final LsqTernary DEFAULTS = new LsqTernary(64, 0, Course.DEFAULTS);

    @Override
    public void run(Run run) {
        new Ternary(Ternary.Kind.LSQ, group, activations).run(run, this, course);
    }

    @Override
    public String variant() {
        return course.variant();
    }
}
