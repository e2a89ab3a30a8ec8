package dev.qat.train;

import dev.qat.data.Windows;

/** Which of n things a step takes: in order, or shuffled anew for every epoch by (seed, epoch) alone. */
final class Order {
    private final boolean shuffled;
    private final long seed;
    private final int n;
    private int[] drawn;
    private long epoch = -1;

    Order(boolean shuffled, long seed, int n) {
        this.shuffled = shuffled;
        this.seed = seed;
        this.n = n;
    }

    /** The k-th of an epoch. */
    int at(long epoch, int k) {
        if (!shuffled) return k;
        if (epoch != this.epoch) drawn = Windows.order(seed, (int) epoch, n);
        this.epoch = epoch;
        return drawn[k];
    }
}
