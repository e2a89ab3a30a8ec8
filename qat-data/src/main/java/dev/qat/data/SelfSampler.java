package dev.qat.data;

import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongConsumer;

/**
 * Text a model says by itself, for calibration without data: sequences from BOS, sampled side by side. Each token's random
 * number is keyed by (seed, sequence, position), so a set does not depend on how it was batched.
 */
public final class SelfSampler {
    private SelfSampler() {}

    /**
     * @param first  number of the first sequence, so that two sets of one seed can be disjoint
     * @param length tokens per sequence, BOS included
     * @param done   told after every batch how many sequences stand
     */
    public static List<int[]> sample(CausalLm model, int bos, int first, int count, int length, int batch, Sampling how, LongConsumer done) {
        if (length > model.context()) throw Fail.usage("sequences of %d tokens asked of a model with a context of %d", length, model.context());
        List<int[]> all = new ArrayList<>();
        int B = Math.min(batch, count);
        int[] ids = new int[B], sequence = new int[B], next = new int[B];
        for (int from = 0; from < count; from += B) {
            try (CausalLm.Decoder decoder = model.decoder(B, length, how)) {
                int[][] rows = new int[B][length];
                for (int b = 0; b < B; b++) {
                    sequence[b] = first + from + b;
                    ids[b] = rows[b][0] = bos;
                }
                for (int t = 1; t < length; t++) {
                    decoder.step(ids, t - 1, sequence, next);
                    for (int b = 0; b < B; b++) {
                        if (next[b] < 0) throw Fail.numeric("sampling, token %d: the model's logits are NaN. Its weights hold NaN or too large numbers; export it again.", t);
                        ids[b] = rows[b][t] = next[b];
                    }
                }
                for (int b = 0; b < B && all.size() < count; b++) all.add(rows[b]);
            }
            done.accept(all.size());
        }
        return all;
    }
}
