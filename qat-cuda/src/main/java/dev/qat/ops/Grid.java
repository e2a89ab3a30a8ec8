package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * A uniform grid of 2^bits codes shared by each group of {@code group} consecutive elements of a row.
 * Asymmetric methods use codes 0..{@link #maxCode()}; learned-step ones {@link #lowest()}..{@link #highest()}.
 */
public record Grid(int bits, int group) {
    public Grid {
        Fail.unless(1 <= bits && bits <= 16 && group > 0, "a grid of %d bits in groups of %d", bits, group);
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
}
