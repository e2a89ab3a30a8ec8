package dev.qat.cuda;

import dev.qat.tensor.Fail;

/** The shape of a launch: x · y · z blocks of a row of threads each, and the bytes of dynamic shared memory of a block. */
public record Blocks(int x, int y, int z, int threads, int shared) {
    private static final int MAX_THREADS = 1024, MAX_Y = 65_535;

    public Blocks {
        Fail.unless(x > 0 && y > 0 && z > 0 && y <= MAX_Y && z <= MAX_Y,
            "grid (%d, %d, %d), expected 1..2147483647, 1..65535, 1..65535", x, y, z);
        Fail.unless(threads > 0 && threads <= MAX_THREADS, "a block of %d threads, expected 1..1024", threads);
        Fail.unless(shared >= 0, "%d bytes of shared memory", shared);
    }

    /** A row of blocks. */
    public static Blocks of(long blocks, int threads) {
        return of(blocks, 1, threads);
    }

    /** A plane of blocks. */
    public static Blocks of(long x, long y, int threads) {
        return of(x, y, 1, threads);
    }

    /** A box of blocks. */
    public static Blocks of(long x, long y, long z, int threads) {
        return new Blocks(Math.toIntExact(x), Math.toIntExact(y), Math.toIntExact(z), threads, 0);
    }

    /** As many blocks as cover the items when each block takes {@code perBlock} of them: ⌈items / perBlock⌉. */
    public static Blocks cover(long items, int perBlock, int threads) {
        return of(Math.ceilDiv(items, perBlock), threads);
    }

    /** The same blocks, each with this many bytes of dynamic shared memory. */
    public Blocks shared(int bytes) {
        return new Blocks(x, y, z, threads, bytes);
    }

    @Override
    public String toString() {
        return "<<<(%d, %d, %d), %d, %d>>>".formatted(x, y, z, threads, shared);
    }
}
