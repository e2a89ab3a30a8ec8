package dev.qat.eval;

import dev.qat.data.CausalLm;
import dev.qat.data.Windows;
import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.function.LongConsumer;

/**
 * exp of the mean negative log-likelihood of a text's tokens.
 *
 * @param window tokens in a window
 * @param tokens predictions that were scored
 * @param nll    their mean negative log-likelihood, in nats
 * @param stderr standard error of {@code nll}, with windows as the independent draws; NaN for a single window
 * @param sums   negative log-likelihood added up per window  @param counts predictions per window
 */
public record Perplexity(Protocol protocol, int window, long tokens, double nll, double stderr, double[] sums, int[] counts) {
    public double perplexity() {
        return Math.exp(nll);
    }

    /** Scores the windows, {@code batch} at a time; {@code done} is told how many stand. */
    public static Perplexity measure(CausalLm model, Protocol protocol, Windows windows, int batch, LongConsumer done) {
        int L = windows.length(), B = Math.min(batch, windows.count());
        if (L > model.context()) {
            throw Fail.usage("window = %d, but the model's context is %d tokens (max_position_embeddings). Choose a shorter window.", L, model.context());
        }
        double[] sums = new double[windows.count()];
        int[] counts = new int[windows.count()], rows = new int[B], in = new int[B * L], out = new int[B * L];
        float[] nll = new float[B * L];
        for (int from = 0; from < windows.count(); from += B) {
            int have = Math.min(B, windows.count() - from);
            for (int b = 0; b < B; b++) rows[b] = from + Math.min(b, have - 1);
            windows.fill(rows, in, out);
            // a batch that is not full is filled up with windows that do not count
            Arrays.fill(out, have * L, B * L, Windows.MASK);
            model.score(B, L, in, out, nll);
            for (int n = 0; n < have * L; n++) {
                if (out[n] < 0) continue;
                sums[from + n / L] += finite(nll[n], from + n / L, n % L);
                counts[from + n / L]++;
            }
            done.accept(from + have);
        }
        long tokens = Arrays.stream(counts).asLongStream().sum();
        return new Perplexity(protocol, L, tokens, Arrays.stream(sums).sum() / tokens, Statistics.error(sums, counts), sums, counts);
    }

    private static float finite(float nll, int window, int position) {
        if (Float.isFinite(nll)) return nll;
        throw Fail.numeric("window %d, position %d: the negative log-likelihood is %s. The model's weights hold NaN or too large numbers; export it again.",
                window, position, nll);
    }
}
