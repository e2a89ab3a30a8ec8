package dev.qat.method;

import dev.qat.tensor.Fail;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * ParetoQ's stretched elastic quantizer (arXiv 2502.02631): levels of a learned scale that begins at max |w|.
 *
 * @param levels   3: 0 and ±⅔, 1.58 bits; 4: ±¼ and ±¾, 2 bits
 * @param official with 3 levels, takes a clipped weight for a whole scale in the scale's gradient, as the released code does, not for the ⅔ it is
 */
public record Seq(int group, int levels, boolean official, int activations, Course course) implements Stage {
    public static final Seq DEFAULTS = new Seq(64, 3, true, 0, Course.DEFAULTS);

    public Seq {
        if (levels != 3 && levels != 4) throw Fail.usage("levels = %d, expected 3 or 4", levels);
    }

    @Override
    public void run(Run run) {
        new Ternary(levels == 4 ? Ternary.Kind.SEQ_FOURS : official ? Ternary.Kind.SEQ_OFFICIAL : Ternary.Kind.SEQ, group, activations).run(run, this, course);
    }

    @Override
    public String variant() {
        String what = levels == 4 ? "2 bits" : "";
        return what.isEmpty() || course.variant().isEmpty() ? what + course.variant() : what + ", " + course.variant();
    }
}
