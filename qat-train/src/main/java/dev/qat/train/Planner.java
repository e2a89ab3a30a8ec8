package dev.qat.train;

import dev.qat.data.HfModelDir;
import dev.qat.data.Windows;
import dev.qat.export.HfOut;
import dev.qat.export.Target;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Backend;
import dev.qat.ops.Meter;
import dev.qat.tensor.DType;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.ShapeMemory;

/** Runs a recipe on shapes alone. Needs the model's config.json, not its weights. */
public final class Planner {
    private Planner() {}

    /** For a device whose products read {@code operand}. */
    public static Plan plan(Recipe recipe, DType operand) {
        return plan(recipe, operand, 0);
    }

    /** @param workspace bytes of its memory that the device's backend has for itself */
    public static Plan plan(Recipe recipe, DType operand, long workspace) {
        try (Start start = Start.open(recipe.model().path(), false)) {
            HfModelDir source = start.dir();
            ModelConfig config = start.config();
            ShapeMemory memory = new ShapeMemory(64, workspace > 0);
            if (workspace > 0) memory.allocate("workspace", workspace);
            Backend backend = Meter.shape(operand, memory).backend();
            boolean scratch = recipe.model().init() == Recipe.Init.RANDOM;
            Model student = scratch ? new Model(config, memory) : Model.open(config, Model.Source.NOTHING, memory, operand);
            Model teacher = scratch ? student : student.twin();
            Plan plan = new Plan();
            TrainingSet train = Texts.trainingShape(recipe, source, config.V());
            Run run = Run.planned(recipe, backend, student, teacher, train, plan);
            start.codes(run);
            Windows held = Texts.blank(recipe.eval().sampled(), recipe.eval().length());
            Texts.plan(recipe, teacher, backend);
            Judge judge = new Judge(run, held, recipe.eval().batch());
            if (!scratch) judge.judge(true);
            for (Stage stage : recipe.stages()) {
                run.perform(stage);
                judge.judge(false);
            }
            Target.of(recipe.target()).check(run.packed().values(), source, student.config);
            memory.hostPeak().forEach(plan::host);
            files(plan, recipe, run, config);
            plan.done(memory.peakSlabs(), memory.peak(), config.parameters());
            return plan;
        }
    }

    /** The speed of a backend at the steps this recipe would take, from a few of one random block. */
    public static Roofline.Speed probe(Recipe recipe, Backend backend, int batch) {
        try (Start start = Start.open(recipe.model().path(), false)) {
            return Probe.run(backend, start.config(), batch, recipe.data().length());
        }
    }

    /** The files a finished run and its checkpoints are made of. */
    private static void files(Plan plan, Recipe recipe, Run run, ModelConfig config) {
        long codes = 0, target = 0;
        for (PackedWeight p : run.packed().values()) {
            codes += HfOut.bytes(p);
            target += (long) (p.rows() * p.cols() * Target.of(recipe.target()).bitsPerWeight(p) / 8);
        }
        long quantized = run.packed().values().stream().mapToLong(p -> p.rows() * p.cols()).sum(), half = 2 * (config.parameters() - quantized);
        plan.files(config.parameters() * recipe.save().dtype().bytes(), codes, recipe.target().isEmpty() ? 0 : target + half, recipe.checkpoint().keep());
    }
}
