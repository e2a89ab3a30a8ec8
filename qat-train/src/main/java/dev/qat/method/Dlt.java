package dev.qat.method;

import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Dual learnable ternarization: trits times a learned scale plus a learned shift per group. The shift is no whole number of
 * steps, so the result is written as plain weights and no packed format takes it.
 */
public record Dlt(int group, int activations, Course course) implements Stage {
    public static final Dlt DEFAULTS = new Dlt(64, 0, Course.DEFAULTS);

    @Override
    public void run(Run run) {
        new Ternary(Ternary.Kind.DLT, group, activations).run(run, this, course);
    }

    @Override
    public String variant() {
        return course.variant();
    }
}
