package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * A uniform grid of 2^bits codes shared by each group of {@code group} consecutive elements of a row.
 * Asymmetric methods use codes 0..{@link #maxCode()}; learned-step ones {@link #lowest()}..{@link #highest()}.
 */
public record Grid(int bits, int group, Offset offset) {
    /** Where code 0 of a group lies: at a whole number of steps below zero, trained or given, or at a minimum of its own. */
    public enum Offset {
        /** w = (code − z) · s, z a trained whole number. */
        POINT,
        /** The same with z = 2^(b−1): a symmetric grid. */
        MIDDLE,
        /** The same with z = 1. */
        ONE,
        /** w = code · s + m, m a trained number up to 0. */
        MINIMUM
    }

    public Grid {
        Fail.unless(1 <= bits && bits <= 16 && group > 0, "a grid of %d bits in groups of %d", bits, group);
        Fail.unless(bits > 1 || offset == Offset.POINT || offset == Offset.MINIMUM, "a grid of one bit about %s", offset);
    }

    public Grid(int bits, int group) {
        this(bits, group, Offset.POINT);
    }

    /** Q = 2^b − 1 */
    public int maxCode() {
        return (1 << bits) - 1;
    }

    /** −2^(b−1) */
    public int lowest() {
        return -(1 << (bits - 1));
    }

    /** 2^(b−1) − 1 */
    public int highest() {
        return (1 << (bits - 1)) - 1;
    }

    /** Whether a group has a minimum of its own instead of a zero point. */
    public boolean minimum() {
        return offset == Offset.MINIMUM;
    }

    /** The zero point that is given, or −1. */
    public int given() {
        return offset == Offset.MIDDLE ? -lowest() : offset == Offset.ONE ? 1 : -1;
    }
}
