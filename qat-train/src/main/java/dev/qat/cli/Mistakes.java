package dev.qat.cli;

import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.List;

/** Every mistake found in one recipe, so that a user mends them in one go and no work starts before. */
final class Mistakes {
    private final List<String> lines = new ArrayList<>();

    /** Notes one mistake: where it stands, and a sentence. */
    void add(String where, String format, Object... args) {
        lines.add(where + ": " + format.formatted(args));
    }

    boolean none() {
        return lines.isEmpty();
    }

    /** Throws one usage error that holds every line, or returns when there is nothing to say. */
    void report(String recipe) {
        if (lines.size() == 1) throw Fail.usage("%s", lines.getFirst());
        if (lines.size() > 1) {
            throw Fail.usage("%d mistakes in %s:%n  %s", lines.size(), recipe, String.join("\n  ", lines));
        }
    }
}
