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
 * @param quads  the smallest of every four neighbours is 0 and the other three are not, whatever the edge
 */
public record Trits(int group, float level, float edge, float clip, float beyond, float slope, boolean quads) {
    public Trits {
        Fail.unless(group > 0 && (!quads || group % 4 == 0), "trits in groups of %d%s", group, quads ? ", expected a multiple of 4" : "");
    }

    /** Scales and edges are given. */
    public static Trits given(int group) {
        return new Trits(group, 1, 0, Float.POSITIVE_INFINITY, 1, 1, false);
    }

    /** Sherry's: three of every four. */
    public static Trits quads(int group) {
        return new Trits(group, 1, 0, Float.POSITIVE_INFINITY, 1, 1, true);
    }

    /** LSQ (arXiv 1902.08153) on the codes −1, 0, 1; also DLT's scale. */
    public static Trits lsq(int group) {
        return new Trits(group, 1, 0.5f, 1, 1, (float) (1 / Math.sqrt(group)), false);
    }

    /**
     * ParetoQ's stretched quantizer (arXiv 2502.02631), 2/3 of the scale beyond 1/3 of it.
     *
     * @param official takes a clipped weight for a whole scale in the gradient, as the code does, instead of for the 2/3 it is
     */
    public static Trits stretched(int group, boolean official) {
        return new Trits(group, 2 / 3f, 1 / 3f, 0.99f, official ? 1 : 2 / 3f, (float) (1 / Math.sqrt(group)), false);
    }
}
