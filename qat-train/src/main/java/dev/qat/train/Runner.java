package dev.qat.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.data.HfModelDir;
import dev.qat.data.HfModelWriter;
import dev.qat.data.Windows;
import dev.qat.export.HfOut;
import dev.qat.method.Methods;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Runs a recipe from model to result: read, train stage by stage, judge after each, write. */
public final class Runner {
    /** One line of the closing table. */
    public record Row(String name, double perplexity, double kl, double top1, double bitsPerWeight, double seconds) {}

    /** @param heldOut what was judged, in words */
    public record Result(List<Row> rows, String heldOut, double seconds, Path directory) {}

    private static final ObjectMapper JSON = new ObjectMapper();

    private final Recipe recipe;
    private final Backend backend;
    private final Watch watch;
    private final List<Row> rows = new ArrayList<>();

    private Runner(Recipe recipe, Backend backend, Watch watch) {
        this.recipe = recipe;
        this.backend = backend;
        this.watch = watch;
    }

    /** @param rendered the resolved recipe as YAML, kept beside the results  @param versions what made them */
    public static Result run(Recipe recipe, String rendered, Map<String, String> versions, Backend backend, Watch watch) {
        Path dir = recipe.directory();
        try {
            Files.createDirectories(dir);
        } catch (IOException e) {
            throw Fail.io(e, "cannot create %s: %s. Choose a directory you may write to with output=DIR.", dir, e);
        }
        AtomicFile.write(dir.resolve("recipe.yaml"), rendered);
        return new Runner(recipe, backend, watch).run(versions);
    }

    private Result run(Map<String, String> versions) {
        long start = System.nanoTime();
        Path dir = recipe.directory();
        boolean scratch = recipe.model().init() == Recipe.Init.RANDOM;
        Path model = recipe.model().path();
        try (HfModelDir source = scratch ? HfModelDir.describe(model) : HfModelDir.open(model); Metrics metrics = new Metrics(dir.resolve("metrics.jsonl"))) {
            // what cannot be run or written is said before the first minute of work, not after the last
            HfModelWriter.refuseOccupied(dir.resolve("model"), true);
            Planner.plan(recipe, backend.operand());
            Model student = scratch ? fresh(source) : Model.open(source, backend.memory(), backend.operand());
            Model teacher = scratch ? student : student.twin();
            Texts texts = Texts.of(recipe, source, teacher, backend, watch);
            Run run = new Run(recipe, backend, student, teacher, texts.train(), watch, metrics, Peak.measure(backend));
            stages(run, texts.heldOut());
            run.bake();
            new HfOut(source, recipe.save().dtype(), versions).write(dir.resolve("model"), student, run.packed());
            double seconds = (System.nanoTime() - start) * 1e-9;
            write(dir, source, texts, versions, seconds);
            return new Result(rows, texts.description(), seconds, dir);
        }
    }

    private Model fresh(HfModelDir source) {
        Model m = new Model(ModelConfig.of(source.config(), source.dir().resolve("config.json").toString()), backend.memory());
        m.randomize(recipe.seed());
        return m;
    }

    private void stages(Run run, Windows heldOut) {
        Judge judge = new Judge(run, heldOut, recipe.eval().batch());
        if (run.student() != run.source()) judge(run, judge, "fp", System.nanoTime());
        for (Stage stage : recipe.stages()) {
            long start = System.nanoTime();
            run.perform(stage);
            judge(run, judge, Methods.nameOf(stage), start);
        }
    }

    private void judge(Run run, Judge judge, String name, long start) {
        double seconds = (System.nanoTime() - start) * 1e-9;
        Judge.Quality q = judge.judge(name.equals("fp"));
        if (!Double.isFinite(q.perplexity()) || !Double.isFinite(q.kl())) {
            throw Fail.numeric("%s: perplexity = %s, KL = %s on held-out text. %s", name, q.perplexity(), q.kl(), name.equals("fp")
                    ? "The weights of " + recipe.model().path() + " hold NaN or too large numbers: export the model again."
                    : "No model was written. Lower this stage's learning rates, or give it more bits.");
        }
        double bits = run.packed().values().stream().mapToDouble(p -> p.bitsPerWeight()).average().orElse(32);
        rows.add(new Row(name, q.perplexity(), q.kl(), q.top1(), bits, name.equals("fp") ? 0 : seconds));
        watch.say("%-14s perplexity %.4g   KL %.4f   top-1 %.1f%%   %.1f s".formatted(name, q.perplexity(), q.kl(), 100 * q.top1(), rows.getLast().seconds()));
    }

    private void write(Path dir, HfModelDir source, Texts texts, Map<String, String> versions, double seconds) {
        ObjectNode result = JSON.createObjectNode();
        result.put("model", recipe.model().path().toString()).put("recipe", recipe.name()).put("seed", recipe.seed());
        result.put("backend", backend.name()).put("held_out", texts.description());
        result.put("train_windows", texts.train().all().count()).put("window_length", texts.train().all().length());
        result.set("versions", JSON.<JsonNode>valueToTree(versions));
        result.put("seconds", seconds);
        ArrayNode stages = result.putArray("stages");
        for (Row r : rows) {
            stages.addObject().put("name", r.name).put("perplexity", r.perplexity).put("kl", r.kl).put("top1", r.top1)
                    .put("bits_per_weight", r.bitsPerWeight).put("seconds", r.seconds);
        }
        AtomicFile.write(dir.resolve("result.json"), result.toPrettyString() + "\n");
    }
}
