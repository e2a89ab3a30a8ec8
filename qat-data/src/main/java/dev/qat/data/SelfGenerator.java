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

    private final CausalLm model;
    private final Generation g;
    private final int[] order;   // (V): the vocabulary in the order in which it begins sequences
    private final int[] ends;
    private final CausalLm.Decoder decoder;
    private final int[] ids, positions, sequence, next, best; // (B)

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

    /**
     * The sequences of a shard in order, each from its first token to its last, without the end of text.
     *
     * @param done told after every step how many tokens stand
     */
    public int[][] shard(int shard, LongConsumer done) {
        int first = shard * g.shard(), count = Math.min(g.shard(), g.sequences() - first), B = g.batch(), entered = 0;
        int[][] rows = new int[count][];
        int[] length = new int[count];
        Arrays.fill(sequence, IDLE);
        for (int b = 0; b < B && entered < count; b++) enter(b, first + entered, rows, entered++);
        long tokens = entered;
        while (Arrays.stream(sequence).anyMatch(s -> s != IDLE)) {
            decoder.step(ids, positions, sequence, next, best);
            for (int b = 0; b < B; b++) {
                if (sequence[b] == IDLE) continue;
                int n = sequence[b] - first, at = ++positions[b], token = at <= greedy(sequence[b]) ? best[b] : next[b];
                if (token < 0) throw Fail.numeric("sequence %d, token %d: the model's logits are NaN. Its weights hold NaN or too large numbers; export it again.", sequence[b], at);
                boolean over = contains(ends, token);
                if (!over) {
                    rows[n][at] = ids[b] = token;
                    tokens++;
                }
                length[n] = over ? at : at + 1;
                if (!over && length[n] < g.length()) continue;
                if (entered < count) {
                    tokens++;
                    enter(b, first + entered, rows, entered++);
                } else {
                    leave(b);
                }
            }
            done.accept(tokens);
        }
        for (int n = 0; n < count; n++) rows[n] = Arrays.copyOf(rows[n], length[n]);
        return rows;
    }

    private void enter(int b, int number, int[][] rows, int n) {
        rows[n] = new int[g.length()];
        rows[n][0] = ids[b] = order[number % order.length];
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
