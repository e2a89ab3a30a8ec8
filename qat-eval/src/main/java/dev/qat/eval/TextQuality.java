package dev.qat.eval;

import dev.qat.data.CausalLm;
import dev.qat.data.Repetition;
import dev.qat.data.Windows;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.commons.math3.stat.inference.KolmogorovSmirnovTest;

/**
 * What a set of generated sequences is worth as training text.
 *
 * @param lengths    tokens of a sequence: smallest, quartiles, largest
 * @param full       share of sequences that go to the length asked for instead of ending themselves
 * @param repetition mean share of a sequence's 4-grams that it has said before
 * @param distinct   different n-grams over all n-grams of the whole set, n = 1, 2, 3
 * @param coverage   share of the vocabulary that begins a sequence
 * @param nats       mean −log p of a token under the teacher given those before it, which for text sampled at temperature 1
 *                   without top-k and top-p estimates the teacher's entropy
 * @param likeness   how far it is from the user's text; null where none was given
 */
public record TextQuality(int sequences, long tokens, int[] lengths, double full, double repetition, double[] distinct, double coverage, double nats, Likeness likeness) {
    /**
     * Two-sample Kolmogorov–Smirnov test on the tokens' log-probabilities under the teacher. Tokens of one text are not
     * independent, so p only says how large the distance D is for so many of them.
     *
     * @param nats of the user's text  @param distance D, the largest gap between the two distribution functions
     */
    public record Likeness(long tokens, double nats, double distance, double p) {}

    private static final int GRAMS = 3;

    /**
     * @param sequences without separators  @param length that was asked for
     * @param user      windows of the user's text to compare with, or null  @param most windows to score of either
     */
    public static TextQuality of(CausalLm teacher, List<int[]> sequences, int length, Windows user, int batch, int most) {
        if (sequences.isEmpty()) throw Fail.data("no sequence was kept: the limits under keep refuse them all; loosen them");
        long tokens = sequences.stream().mapToLong(s -> s.length).sum();
        int[] sizes = sequences.stream().mapToInt(s -> s.length).sorted().toArray();
        int n = sizes.length;
        int[] quartiles = {sizes[0], sizes[n / 4], sizes[n / 2], sizes[3 * n / 4], sizes[n - 1]};
        double[] own = logProbabilities(teacher, windows(sequences, most), batch);
        Likeness likeness = null;
        if (user != null) {
            double[] theirs = logProbabilities(teacher, firsts(user, most), batch);
            KolmogorovSmirnovTest ks = new KolmogorovSmirnovTest();
            double d = ks.kolmogorovSmirnovStatistic(own, theirs);
            likeness = new Likeness(theirs.length, -mean(theirs), d, ks.approximateP(d, own.length, theirs.length));
        }
        long first = sequences.stream().mapToInt(s -> s[0]).distinct().count();
        return new TextQuality(n, tokens, quartiles, (double) Arrays.stream(sizes).filter(s -> s >= length).count() / n,
                sequences.stream().mapToDouble(s -> Repetition.share(s, Repetition.N)).average().orElse(0), distinct(sequences),
                (double) first / teacher.vocabulary(), -mean(own), likeness);
    }

    private static double[] distinct(List<int[]> sequences) {
        double[] shares = new double[GRAMS];
        for (int n = 1; n <= GRAMS; n++) {
            Set<Repetition.Gram> seen = new HashSet<>();
            long grams = 0;
            for (int[] s : sequences) {
                seen.addAll(Repetition.distinct(s, n));
                grams += Math.max(0, s.length - n + 1);
            }
            shares[n - 1] = grams == 0 ? 0 : (double) seen.size() / grams;
        }
        return shares;
    }

    /** Evenly chosen sequences, each a window of its own. */
    private static Windows windows(List<int[]> sequences, int most) {
        List<int[]> chosen = new ArrayList<>();
        int n = Math.min(most, sequences.size());
        for (int i = 0; i < n; i++) chosen.add(sequences.get((int) ((long) i * sequences.size() / n)));
        int longest = chosen.stream().mapToInt(s -> s.length - 1).max().orElse(0);
        if (longest < 1) throw Fail.data("every generated sequence has a single token: the model ends its text at once");
        return Windows.separate(chosen, longest);
    }

    private static Windows firsts(Windows w, int most) {
        return w.count() <= most ? w : new Windows(w.ids(), Arrays.copyOf(w.starts(), most), w.length());
    }

    private static double[] logProbabilities(CausalLm teacher, Windows w, int batch) {
        int B = Math.min(batch, w.count()), L = w.length(), at = 0;
        int[] rows = new int[B], in = new int[B * L], out = new int[B * L];
        float[] nll = new float[B * L];
        double[] all = new double[w.count() * L];
        for (int from = 0; from < w.count(); from += B) {
            int have = Math.min(B, w.count() - from);
            for (int b = 0; b < B; b++) rows[b] = from + Math.min(b, have - 1);
            w.fill(rows, in, out);
            Arrays.fill(out, have * L, B * L, Windows.MASK);
            teacher.score(B, L, in, out, nll);
            for (int i = 0; i < have * L; i++) if (out[i] >= 0) all[at++] = -nll[i];
        }
        return Arrays.copyOf(all, at);
    }

    private static double mean(double[] x) {
        return Arrays.stream(x).average().orElse(Double.NaN);
    }
}
