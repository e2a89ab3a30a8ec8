package dev.qat.data;

import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;

/** How a sequence repeats itself, and which sequences are too degenerate to keep. */
public final class Repetition {
    /** The length of the n-grams whose second and later appearances count as repetition. */
    public static final int N = 4;

    /**
     * A sequence is kept if it has at least {@code minTokens}, at most a share {@code maxRepetition} of 4-grams it said
     * before, and no token more than {@code maxRun} times in a row (0: any). Defaults keep all, as officially.
     */
    public record Limits(int minTokens, double maxRepetition, int maxRun) {
        public static final Limits DEFAULTS = new Limits(1, 1, 0);

        public Limits {
            if (minTokens < 0 || maxRun < 0) throw Fail.usage("min-tokens = %d, max-run = %d, expected 0 or more", minTokens, maxRun);
            if (maxRepetition < 0 || maxRepetition > 1) throw Fail.usage("max-repetition = %s, expected a share in [0, 1]", maxRepetition);
        }

        public boolean keep(int[] ids) {
            return ids.length >= minTokens && share(ids, N) <= maxRepetition && (maxRun == 0 || run(ids) <= maxRun);
        }
    }

    private Repetition() {}

    /** Share of a sequence's n-grams that it has said before: 0 for one that never repeats itself. */
    public static double share(int[] ids, int n) {
        int grams = ids.length - n + 1;
        return grams <= 0 ? 0 : 1 - (double) distinct(ids, n).size() / grams;
    }

    /** The most times a token comes in a row. */
    public static int run(int[] ids) {
        int most = 0, now = 0;
        for (int i = 0; i < ids.length; i++) {
            now = i > 0 && ids[i] == ids[i - 1] ? now + 1 : 1;
            most = Math.max(most, now);
        }
        return most;
    }

    /** The different n-grams of a sequence. */
    public static Set<Gram> distinct(int[] ids, int n) {
        Set<Gram> seen = new HashSet<>();
        for (int i = 0; i + n <= ids.length; i++) seen.add(new Gram(Arrays.copyOfRange(ids, i, i + n)));
        return seen;
    }

    /** n tokens in a row, equal where their tokens are. */
    public record Gram(int[] ids) {
        @Override
        public boolean equals(Object other) {
            return other instanceof Gram g && Arrays.equals(ids, g.ids);
        }

        @Override
        public int hashCode() {
            return Arrays.hashCode(ids);
        }
    }
}
