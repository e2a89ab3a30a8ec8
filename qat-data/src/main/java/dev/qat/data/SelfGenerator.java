package dev.qat.data;

import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.function.LongConsumer;

/**
 * Decodes the sequences of a {@link Generation} in batches which they leave as they end and enter as there is room. Sequence n
 * is a function of (model, settings, seed, n) and of its shard alone: first token and random numbers are keyed by n, and every
 * shard starts with an empty batch.
 */
public final class SelfGenerator implements AutoCloseable {
    private static final int IDLE = -1;
    /** Steps between two standings that a watcher is given to keep. */
    private static final int KEPT = 64;

    private final CausalLm model;
    private final Generation g;
    private final int[] order;   // (V): the vocabulary in the order in which it begins sequences
    private final int[] ends;
    private final CausalLm.Decoder decoder;
    private final int[] ids, positions, sequence, next, best; // (B)
    /** The shard at work: tokens and lengths of its sequences, and how many have entered the batch. */
    private int[][] rows;
    private int[] length;
    private int entered;

    /** @param g resolved for this model  @param ends tokens that end a text */
    public SelfGenerator(CausalLm model, Generation g, long seed, int[] ends) {
        this.model = model;
        this.g = g;
        this.ends = ends;
        int B = g.batch();
        order = Windows.order(seed, 0, model.vocabulary());
        ids = new int[B];
        positions = new int[B];
        sequence = new int[B];
        next = new int[B];
        best = new int[B];
        decoder = model.decoder(B, g.length(), g.sampling(seed));
    }

    /** What one hears who looks on. */
    public interface Watcher {
        /** After every step: so many tokens stand. */
        void stands(long tokens);

        /** Whether this watcher wants an end; then he is given where the shard stands, and may throw. */
        default boolean ends() {
            return false;
        }

        /** Now and then: from here the shard can go on. */
        default void keep(Standing standing) {}
    }

    /** The sequences of a shard in order, each from its first token to its last, without the end of text. */
    public int[][] shard(int shard, LongConsumer done) {
        return shard(shard, null, done::accept);
    }

    /**
     * The same from where it stood once. What the sequences in the batch had said is read again, every one in the row it had, so that
     * each product is the product it was: the bytes are those of a shard made in one go.
     *
     * @param from null for a shard that begins
     */
    public int[][] shard(int shard, Standing from, Watcher watcher) {
        int first = shard * g.shard(), count = Math.min(g.shard(), g.sequences() - first), B = g.batch();
        rows = new int[count][];
        length = new int[count];
        entered = 0;
        Arrays.fill(sequence, IDLE);
        if (from == null) for (int b = 0; b < B && entered < count; b++) enter(b, first + entered);
        else resume(from, first);
        long tokens = Arrays.stream(length, 0, entered).asLongStream().sum();
        for (int steps = 1; Arrays.stream(sequence).anyMatch(s -> s != IDLE); steps++) {
            decoder.step(ids, positions, sequence, next, best);
            for (int b = 0; b < B; b++) {
                if (sequence[b] == IDLE) continue;
                int n = sequence[b] - first, at = ++positions[b], token = at <= greedy(sequence[b]) ? best[b] : next[b];
                if (token < 0) throw Fail.numeric("sequence %d, token %d: the model's logits are NaN. Its weights hold NaN or too large numbers; export it again.", sequence[b], at);
                boolean over = contains(ends, token);
                if (!over) {
                    rows[n][at] = ids[b] = token;
                    length[n]++;
                    tokens++;
                }
                if (!over && length[n] < g.length()) continue;
                if (entered < count) {
                    tokens++;
                    enter(b, first + entered);
                } else {
                    leave(b);
                }
            }
            watcher.stands(tokens);
            if (steps % KEPT == 0 || watcher.ends()) watcher.keep(standing(shard));
        }
        for (int n = 0; n < count; n++) rows[n] = Arrays.copyOf(rows[n], length[n]);
        return rows;
    }

    private Standing standing(int shard) {
        int[][] said = new int[entered][];
        for (int n = 0; n < entered; n++) said[n] = Arrays.copyOf(rows[n], length[n]);
        return new Standing(shard, said, sequence.clone(), positions.clone());
    }

    /** Takes up what stood, and has the decoder read what is in the batch so that all rows end at once; those that are shorter wait. */
    private void resume(Standing from, int first) {
        entered = from.rows().length;
        for (int n = 0; n < entered; n++) {
            rows[n] = Arrays.copyOf(from.rows()[n], g.length());
            length[n] = from.rows()[n].length;
        }
        int longest = Arrays.stream(from.position()).max().orElse(0);
        System.arraycopy(from.sequence(), 0, sequence, 0, sequence.length);
        for (int t = -longest; t <= 0; t++) {
            for (int b = 0; b < sequence.length; b++) {
                positions[b] = sequence[b] == IDLE ? 0 : Math.max(0, from.position()[b] + t);
                ids[b] = sequence[b] == IDLE ? 0 : rows[sequence[b] - first][positions[b]];
            }
            if (t < 0) decoder.step(ids, positions, sequence, next, best);
        }
    }

    private void enter(int b, int number) {
        int n = entered++;
        rows[n] = new int[g.length()];
        rows[n][0] = ids[b] = order[number % order.length];
        length[n] = 1;
        sequence[b] = number;
        positions[b] = 0;
    }

    /** A row without a sequence goes on decoding, to no effect. */
    private void leave(int b) {
        sequence[b] = IDLE;
        ids[b] = 0;
        positions[b] = 0;
    }

    private int greedy(int number) {
        return g.greedy(number / order.length, number % order.length);
    }

    private static boolean contains(int[] some, int id) {
        for (int s : some) if (s == id) return true;
        return false;
    }

    @Override
    public void close() {
        decoder.close();
    }
}
