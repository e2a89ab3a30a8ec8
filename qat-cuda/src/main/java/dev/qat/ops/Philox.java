package dev.qat.ops;

/**
 * Counter-based random numbers, Philox4x32-10 (Salmon et al., SC 2011): a pure function of (seed, counter), so CPU and GPU
 * draw the same numbers and a resumed run continues bit for bit.
 */
public final class Philox {
    private static final int M0 = 0xD2511F53, M1 = 0xCD9E8D57, W0 = 0x9E3779B9, W1 = 0xBB67AE85;

    private Philox() {}

    /** Word {@code c0 % 4} of the block at counter (c0 / 4, c1, c2, 0) under the key (k0, k1). */
    public static int word(int k0, int k1, long index, int c1, int c2) {
        int a = (int) (index >>> 2), b = c1, c = c2, d = (int) (index >>> 34);
        for (int round = 0; round < 10; round++) {
            long p0 = (M0 & 0xFFFFFFFFL) * (a & 0xFFFFFFFFL), p1 = (M1 & 0xFFFFFFFFL) * (c & 0xFFFFFFFFL);
            a = (int) (p1 >>> 32) ^ b ^ k0;
            b = (int) p1;
            c = (int) (p0 >>> 32) ^ d ^ k1;
            d = (int) p0;
            k0 += W0;
            k1 += W1;
        }
        return switch ((int) index & 3) {
            case 0 -> a;
            case 1 -> b;
            case 2 -> c;
            default -> d;
        };
    }

    /** The upper 24 bits of a word as a float in [0, 1). */
    public static float unit(int word) {
        return (word >>> 8) * 0x1p-24f;
    }

    public static float uniform(long seed, long index, int c1, int c2) {
        return unit(word((int) seed, (int) (seed >>> 32), index, c1, c2));
    }

    /** A standard normal number by Box-Muller from two uniforms. */
    public static double normal(long seed, long index, int c1, int c2) {
        double u = 1 - uniform(seed, 2 * index, c1, c2), v = uniform(seed, 2 * index + 1, c1, c2);
        return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
    }
}
