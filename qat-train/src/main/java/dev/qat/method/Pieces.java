package dev.qat.method;

import java.util.function.IntConsumer;
import java.util.stream.IntStream;

/** Long work on the host's cores in pieces of some seconds at most, between which a run may be asked to end. */
final class Pieces {
    /** Operations that a core does in about a second. */
    private static final long SECOND = 1L << 30;

    private Pieces() {}

    /**
     * {@code each} for 0 to {@code count}, in no order.
     *
     * @param operations of one  @param pause runs before every piece and may throw
     */
    static void parallel(int count, long operations, Runnable pause, IntConsumer each) {
        long some = Runtime.getRuntime().availableProcessors() * Math.max(1, SECOND / Math.max(1, operations));
        for (long from = 0; from < count; from += some) {
            pause.run();
            IntStream.range((int) from, (int) Math.min(count, from + some)).parallel().forEach(each);
        }
    }
}
