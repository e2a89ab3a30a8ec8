package dev.qat.train;

import dev.qat.data.HfModelDir;
import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Backend;
import dev.qat.ops.Meter;
import dev.qat.tensor.DType;
import dev.qat.tensor.ShapeMemory;

/** Runs a recipe on shapes alone. Needs the model's config.json, not its weights. */
public final class Planner {
    private Planner() {}

    public static Plan plan(Recipe recipe, DType operand) {
        try (HfModelDir source = HfModelDir.describe(recipe.model().path())) {
            ModelConfig config = ModelConfig.of(source.config(), source.dir().resolve("config.json").toString());
            ShapeMemory memory = new ShapeMemory(64);
            Backend backend = Meter.shape(operand, memory).backend();
            Model student = new Model(config, memory), teacher = recipe.model().init() == Recipe.Init.RANDOM ? student : new Model(config, memory);
            Plan plan = new Plan();
            TrainingSet train = Texts.trainingShape(recipe, source, config.V());
            Run run = Run.planned(recipe, backend, student, teacher, train, plan);
            Windows held = Texts.blank(recipe.eval().sampled(), recipe.eval().length());
            for (Stage stage : recipe.stages()) {
                stage.run(run);
                new Judge(backend, student, teacher, held, recipe.eval().batch()).close();
            }
            plan.done(memory.peakSlabs(), memory.peak(), config.parameters());
            return plan;
        }
    }
}
