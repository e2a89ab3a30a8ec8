package dev.qat.data;

import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;

/**
 * How a model's own text is generated (LLM-QAT, arXiv 2305.17888 §2.1): a first token from the vocabulary, a few tokens that
 * are each the likeliest, then sampling up to the length or an end of text. Defaults are the paper's.
 *
 * @param mode      hybrid; random (sampled from the second token on) and greedy (never sampled) are the paper's ablation
 * @param sequences how many; each id of the vocabulary comes once in every V of them, in a seeded order; 0 for 3 · V, as officially
 * @param length    tokens of a sequence at most; 0 for the model's context, at most 2048
 * @param greedyFrom  @param greedyTo how many greedy tokens follow the first one, in turn
 * @param temperature @param topK 0 for all @param topP 1 for all
 * @param batch     sequences decoded side by side; one that ends makes place for the next
 * @param shard     sequences in a file; a run that is killed goes on inside it
 */
public record Generation(Mode mode, int sequences, int length, int greedyFrom, int greedyTo, double temperature, int topK, double topP, int batch, int shard) {
    public enum Mode { HYBRID, RANDOM, GREEDY }

    public static final Generation DEFAULTS = new Generation(Mode.HYBRID, 0, 0, 3, 5, 1, 50, 1, 64, 256);
    private static final int OFFICIAL_LENGTH = 2048, PASSES = 3;

    public Generation {
        for (int n : new int[] {sequences, length, greedyFrom, topK}) {
            if (n < 0) throw Fail.usage("%d where 0 or more is expected (sequences, length, greedy-from, top-k)", n);
        }
        if (length == 1) throw Fail.usage("length = 1, expected at least 2 tokens, or 0 for the model's context");
        if (greedyTo < greedyFrom) throw Fail.usage("greedy-to = %d, expected at least greedy-from = %d", greedyTo, greedyFrom);
        if (temperature <= 0) throw Fail.usage("temperature = %s, expected more than 0; mode: greedy takes the likeliest token", temperature);
        if (topP <= 0 || topP > 1) throw Fail.usage("top-p = %s, expected a share in (0, 1]", topP);
        if (batch < 1 || shard < 1) throw Fail.usage("batch = %d, shard = %d, expected at least 1", batch, shard);
    }

    /** The same with every 0 replaced by what it stands for with this model. */
    public Generation resolved(int vocabulary, int context) {
        int most = length == 0 ? Math.min(context, OFFICIAL_LENGTH) : length;
        if (most > context) throw Fail.usage("length = %d, but the model's context is %d tokens (max_position_embeddings). Choose a shorter length.", most, context);
        return new Generation(mode, sequences == 0 ? Math.multiplyExact(PASSES, vocabulary) : sequences, most, greedyFrom, greedyTo, temperature, topK, topP,
                Math.min(batch, shard), shard);
    }

    /** Files the whole set has. */
    public int shards() {
        return Math.ceilDiv(sequences, shard);
    }

    /** How many tokens after the first are the likeliest ones, for the sequence that is {@code pass} · V + {@code place}. */
    int greedy(int pass, int place) {
        return switch (mode) {
            case RANDOM -> 0;
            case GREEDY -> Integer.MAX_VALUE;
            case HYBRID -> greedyFrom + (pass + place) % (greedyTo - greedyFrom + 1);
        };
    }

    Sampling sampling(long seed) {
        return new Sampling((float) temperature, topK, (float) topP, seed);
    }
}
