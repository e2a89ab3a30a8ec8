package dev.qat.data;

import dev.qat.ops.Sampling;

/**
 * What generation and evaluation see of a language model: scores of given tokens, and decoding one token at a time. The
 * project's own model implements it, and so can a file run by somebody else's engine; then the same judges measure both.
 */
public interface CausalLm extends AutoCloseable {
    /** V */
    int vocabulary();

    /** The most tokens a sequence may have. */
    int context();

    /** nll[b·T + t] = −log p(targets[b·T + t] | ids[b·T .. b·T + t]), 0 where the target is negative.   ids, targets, nll (B·T) */
    void score(int B, int T, int[] ids, int[] targets, float[] nll);

    /** Decoding of B sequences side by side, each of at most {@code capacity} tokens; how tokens are drawn is fixed at the start. */
    Decoder decoder(int B, int capacity, Sampling how);

    @Override
    void close();

    /** Keys and values of B sequences, each one token longer with every step. */
    interface Decoder extends AutoCloseable {
        /**
         * Takes one token of every sequence and draws the next: next[b] from row b of the logits, with the random number of
         * (sequence[b], position of the drawn token), and best[b], the likeliest. A row's tokens stand at positions[b] = 0, 1,
         * 2..; position 0 begins another sequence in that row.   ids, positions, sequence, next, best (B)
         */
        void step(int[] ids, int[] positions, int[] sequence, int[] next, int[] best);

        /** Bytes in which keys and values are kept; 0 where that is not known. */
        default long cacheBytes() {
            return 0;
        }

        /** The same with the likeliest left out and all rows at one position. */
        default void step(int[] ids, int position, int[] sequence, int[] next) {
            int[] positions = new int[ids.length];
            java.util.Arrays.fill(positions, position);
            step(ids, positions, sequence, next, null);
        }

        @Override
        void close();
    }
}
