package dev.qat.method;

import dev.qat.tensor.Fail;
import dev.qat.train.Recipe;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/** Takes the student back to the model as it was read, so that one recipe can compare methods from the same start. */
public record Original() implements Stage {
    @Override
    public void run(Run run) {
        run.reset();
        if (run.recipe().model().init() == Recipe.Init.RANDOM) throw Fail.usage("original goes back to the weights that were read, and a model that began with random ones has none");
        run.student().restore();
    }

    @Override
    public boolean judged() {
        return false;
    }
}
