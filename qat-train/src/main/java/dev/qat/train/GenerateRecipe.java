package dev.qat.train;

import dev.qat.data.Generation;
import dev.qat.data.Repetition;
import dev.qat.tensor.Fail;
import java.nio.file.Path;
import java.util.List;

/**
 * What {@code qat generate} reads: which model speaks, how, what is kept of it, and what it is compared with.
 *
 * @param output the folder in which a folder of the recipe's name gets the shards
 * @param keep   limits beyond which a sequence is too degenerate to be written
 */
public record GenerateRecipe(String name, Recipe.Source model, String backend, int threads, long seed, Path output, Generation generate, Repetition.Limits keep, Compare compare) {
    /**
     * @param files a text to compare the set with, if any  @param skip characters to leave out at its start  @param characters to use, 0 for all
     * @param windows of the set and of the text that are scored by the model
     */
    public record Compare(List<Path> files, int skip, int characters, int windows) {
        public static final Compare DEFAULTS = new Compare(List.of(), 0, 0, 128);

        public Compare {
            if (windows < 1) throw Fail.usage("windows = %d, expected at least 1", windows);
        }
    }

    public static final GenerateRecipe DEFAULTS = new GenerateRecipe(null, Recipe.Source.DEFAULTS, "cpu", 0, 1, Path.of("runs"), Generation.DEFAULTS,
            Repetition.Limits.DEFAULTS, Compare.DEFAULTS);

    public Path directory() {
        return output.resolve(name);
    }
}
