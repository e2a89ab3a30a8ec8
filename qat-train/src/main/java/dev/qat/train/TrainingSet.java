package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.List;

/**
 * What a run trains on, kept apart by where it comes from, so that a stage can choose: a block phase gains most from the
 * user's text, an end-to-end phase from the model's own.
 *
 * @param text the user's, or null  @param samples the model's own, or null  @param all both, the text first
 */
record TrainingSet(Windows text, Windows samples, Windows all) {
    static TrainingSet of(Windows text, Windows samples) {
        List<Windows> parts = new ArrayList<>();
        if (text != null) parts.add(text);
        if (samples != null) parts.add(samples);
        return new TrainingSet(text, samples, Windows.join(parts));
    }

    Windows part(Part part) {
        Windows chosen = switch (part) {
            case ALL -> all;
            case TEXT -> text;
            case SAMPLES -> samples;
        };
        if (chosen == null) {
            throw Fail.usage("a stage asks for windows: %s, but this run has none. %s", part.name().toLowerCase(java.util.Locale.ROOT),
                    part == Part.TEXT ? "Give data.files, or leave the key out." : "Set data.samples, or leave the key out.");
        }
        return chosen;
    }
}
