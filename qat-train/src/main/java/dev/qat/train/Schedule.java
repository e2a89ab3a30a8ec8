package dev.qat.train;

import dev.qat.tensor.Fail;

/**
 * How a learning rate moves over a run, as a factor of its peak: linear warm-up times the shape, which goes down to {@code floor}.
 *
 * <pre>
 * cosine    floor + (1 − floor) · ½ (1 + cos π p)      linear   1 − (1 − floor) · p      constant   1
 * wsd       1 until the last fifth, then linear to floor          p = share of the steps after the warm-up that are done
 * whole-cosine   cosine with p = share of all steps that are done: it falls from the first step, so that after a warm-up the peak is never reached
 * </pre>
 */
public record Schedule(Shape shape, double warmup, double floor) {
    public enum Shape { COSINE, LINEAR, CONSTANT, WSD, WHOLE_COSINE }

    /** Share of a WSD run that decays. */
    private static final double DECAY = 0.2;

    public static final Schedule DEFAULTS = new Schedule(Shape.COSINE, 0, 0);

    public Schedule {
        if (warmup < 0 || warmup >= 1) throw Fail.usage("warmup = %s, expected a share of the steps in [0, 1)", warmup);
        if (floor < 0 || floor > 1) throw Fail.usage("floor = %s, expected a share of the peak in [0, 1]", floor);
    }

    /** The factor at step {@code t} of {@code total}, counting from 0. */
    public double at(long t, long total) {
        long warm = (long) (warmup * total);
        double rise = t < warm ? (t + 1.0) / warm : 1;
        double p = shape == Shape.WHOLE_COSINE ? t / (double) total : Math.max(0, t - warm) / (double) Math.max(1, total - warm);
        return rise * switch (shape) {
            case COSINE, WHOLE_COSINE -> floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * p));
            case LINEAR -> 1 - (1 - floor) * p;
            case CONSTANT -> 1;
            case WSD -> p < 1 - DECAY ? 1 : 1 - (1 - floor) * (p - (1 - DECAY)) / DECAY;
        };
    }
}
