package dev.qat.method;

import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * ParetoQ's stretched elastic quantizer (arXiv 2502.02631) at 1.58 bits: levels 0 and ±⅔ of a learned scale that begins at max |w|.
 *
 * @param official takes a clipped weight for a whole scale in the scale's gradient, as the released code does, not for the ⅔ it is
 */
public record Seq(int group, boolean official, int activations, Course course) implements Stage {
    public static final Seq DEFAULTS = new Seq(64, true, 0, Course.DEFAULTS);

    @Override
    public void run(Run run) {
        new Ternary(official ? Ternary.Kind.SEQ_OFFICIAL : Ternary.Kind.SEQ, group, activations).run(run, this, course);
    }

    @Override
    public String variant() {
        return course.variant();
    }
}
