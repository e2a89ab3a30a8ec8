package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * Ternary weights in groups of {@code group} consecutive elements: −1, 0 or 1 times a level.
 *
 * <p>The scale of a group is either given, made from its weights by a {@link Threshold}, or learned; then the edge of the dead
 * zone is a share of it.
 *
 * @param level  what a trit of 1 stands for, in scales
 * @param edge   where the dead zone ends, in scales; for learned scales only
 * @param clip   the straight-through gradient passes where |w| ≤ clip · scale
 * @param beyond what a learned scale's gradient takes a clipped weight for, in scales
 * @param slope  factor of a learned scale's gradient
 * @param shape  how a weight finds its t  @param offset of all levels, in scales
 */
public record Trits(int group, float level, float edge, float clip, float beyond, float slope, Shape shape, float offset) {
    /**
     * ZONE: t = ±1 from the edge on, else 0. QUADS: the smallest of every four neighbours is 0 and the other three are ±1, whatever the edge.
     * FOURS, which are two bits and no trits: t = 3 beyond the edge, 2 from 0 on, 1 inside the edge below it, else 0.
     */
    public enum Shape { ZONE, QUADS, FOURS }

    public Trits {
        Fail.unless(group > 0 && (shape != Shape.QUADS || group % 4 == 0), "trits in groups of %d%s", group, shape == Shape.QUADS ? ", expected a multiple of 4" : "");
    }

    private Trits(int group, float level, float edge, float clip, float beyond, float slope) {
        this(group, level, edge, clip, beyond, slope, Shape.ZONE, 0);
    }

    public boolean quads() {
        return shape == Shape.QUADS;
    }

    /** Scales and edges are given. */
    public static Trits given(int group) {
        return new Trits(group, 1, 0, Float.POSITIVE_INFINITY, 1, 1);
    }

    /** Sherry's: three of every four. */
    public static Trits quads(int group) {
        return new Trits(group, 1, 0, Float.POSITIVE_INFINITY, 1, 1, Shape.QUADS, 0);
    }

    /** LSQ (arXiv 1902.08153) on the codes −1, 0, 1; also DLT's scale. */
    public static Trits lsq(int group) {
        return new Trits(group, 1, 0.5f, 1, 1, (float) (1 / Math.sqrt(group)));
    }

    /**
     * ParetoQ's stretched quantizer (arXiv 2502.02631), 2/3 of the scale beyond 1/3 of it.
     *
     * @param official takes a clipped weight for a whole scale in the gradient, as the code does, instead of for the 2/3 it is
     */
    public static Trits stretched(int group, boolean official) {
        return new Trits(group, 2 / 3f, 1 / 3f, 0.99f, official ? 1 : 2 / 3f, (float) (1 / Math.sqrt(group)));
    }

    /** The same at two bits: −¾, −¼, ¼ and ¾ of the scale. */
    public static Trits stretchedFours(int group) {
        return new Trits(group, 0.5f, 0.5f, 0.99f, 0.75f, (float) (1 / Math.sqrt(group)), Shape.FOURS, -0.75f);
    }

    /** t itself, from given edges. */
    public Trits codes() {
        return new Trits(group, 1, 0, Float.POSITIVE_INFINITY, 1, 1, shape, 0);
    }
}
