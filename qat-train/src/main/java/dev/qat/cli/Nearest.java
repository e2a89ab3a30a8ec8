package dev.qat.cli;

import java.util.Collection;
import java.util.Comparator;
import java.util.Optional;

/** The known word nearest to a mistyped one. */
final class Nearest {
    private Nearest() {}

    /** {@code "; did you mean 'epochs'?"}, or nothing when no known word is near. */
    static String hint(String word, Collection<String> known) {
        return find(word, known).map(near -> "; did you mean '" + near + "'?").orElse("");
    }

    /** The nearest word, if it is at most two letters away, or a third of the word's length where that is more. */
    static Optional<String> find(String word, Collection<String> known) {
        return known.stream()
                .filter(k -> distance(word, k) <= Math.max(2, word.length() / 3) && distance(word, k) < k.length())
                .min(Comparator.comparingInt((String k) -> distance(word, k)).thenComparing(Comparator.naturalOrder()));
    }

    /** Levenshtein: the fewest insertions, deletions and replacements that turn {@code a} into {@code b}. */
    static int distance(String a, String b) {
        int[] row = new int[b.length() + 1];                 // row[j]: distance of a's first i letters to b's first j
        for (int j = 0; j <= b.length(); j++) row[j] = j;
        for (int i = 1; i <= a.length(); i++) {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                int replace = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.min(replace, Math.min(row[j], row[j - 1]) + 1);
            }
        }
        return row[b.length()];
    }
}
