package dev.qat.train;

import dev.qat.data.AtomicFile;
import dev.qat.data.HfModelDir;
import dev.qat.data.HfModelWriter;
import dev.qat.data.Windows;
import dev.qat.export.Deployment;
import dev.qat.export.Exports;
import dev.qat.export.HfOut;
import dev.qat.export.Target;
import dev.qat.method.Methods;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.watch.Board;
import dev.qat.watch.Heart;
import dev.qat.watch.Metrics;
import dev.qat.watch.Mlflow;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Runs a recipe from model to result: read, train stage by stage, judge after each, write. */
public final class Runner {
    /**
     * @param heldOut what was judged, in words  @param deployment what was written for the recipe's target
     * @param old     whether the run was finished before, and nothing was done now
     */
    public record Result(List<Row> rows, String heldOut, double seconds, Path directory, Optional<Deployment> deployment, boolean old) {}

    /** Between two batches of numbers for a tracking server. */
    private static final Duration BETWEEN = Duration.ofSeconds(5);

    private final Recipe recipe;
    private final RunFiles files;
    private final Map<String, String> versions;
    private final Backend backend;
    private final Watch watch;
    private final Stop stop;

    private Runner(Recipe recipe, RunFiles files, Map<String, String> versions, Backend backend, Watch watch, Stop stop) {
        this.recipe = recipe;
        this.files = files;
        this.versions = versions;
        this.backend = backend;
        this.watch = watch;
        this.stop = stop;
    }

    /** A run that nobody outside stops. */
    public static Result run(Recipe recipe, String rendered, Map<String, String> versions, Backend backend, Watch watch) {
        return run(recipe, rendered, versions, backend, watch, new Stop());
    }

    /**
     * Begins a run, or goes on with the one whose checkpoints lie in its directory.
     *
     * @param rendered the resolved recipe as YAML, kept beside the results  @param versions what made them
     */
    public static Result run(Recipe recipe, String rendered, Map<String, String> versions, Backend backend, Watch watch, Stop stop) {
        try (RunFiles files = RunFiles.open(recipe, watch)) {
            try {
                return new Runner(recipe, files, versions, backend, watch, stop).run(rendered);
            } catch (RuntimeException e) {
                files.failed(e);
                throw e;
            }
        }
    }

    private Result run(String rendered) {
        long begun = System.nanoTime();
        Path dir = recipe.directory(), model = recipe.model().path();
        boolean scratch = recipe.model().init() == Recipe.Init.RANDOM;
        try (Start start = Start.open(model, !scratch)) {
            HfModelDir source = start.dir();
            // what cannot be run or written is said before the first minute of work, not after the last
            HfModelWriter.refuseOccupied(dir.resolve("model"), true);
            start.description().forEach(watch::say);
            Planner.plan(recipe, backend.operand());
            Map<String, String> fingerprint = Fingerprint.of(recipe, rendered, start, versions.getOrDefault("qat", ""));
            Optional<Result> finished = files.finished(fingerprint);
            if (finished.isPresent()) return finished.get();
            Checkpoints.Manifest from = files.resume(fingerprint, environment());
            AtomicFile.write(dir.resolve("recipe.yaml"), rendered);
            Heart heart = files.begin();
            if (recipe.observe().prometheus() > 0) heart.serve(recipe.observe().prometheus(), recipe.name());
            Model student = scratch ? fresh(source) : start.model(backend.memory(), backend.operand());
            Model teacher = scratch ? student : student.twin();
            Watch watched = heart.watched(watch);
            Texts texts = Texts.of(recipe, source, teacher, backend, watched, files.samples(fingerprint, stop));
            fingerprint.put("data", Fingerprint.windows(texts.train().all(), texts.heldOut()));
            if (from != null) files.refuseOther(from, fingerprint);
            try (Metrics metrics = new Metrics(dir.resolve("metrics.jsonl"), from == null ? 0 : from.metrics());
                 Ledger ledger = new Ledger(files.checkpoints(), metrics, new Ledger.Identity(fingerprint, environment()), from, begun);
                 Board board = recipe.observe().tensorboard() ? new Board(dir, RunFiles::make) : null;
                 Mlflow mlflow = recipe.observe().mlflow().isEmpty() ? null : new Mlflow(recipe.observe().mlflow(), dir, recipe.name(), Fingerprint.key(fingerprint), watch, stop::asked, BETWEEN)) {
                if (board != null) metrics.show(board, ledger.rows());
                if (mlflow != null) metrics.show(mlflow, ledger.rows());
                Journal journal = new Journal(recipe.checkpoint(), ledger, stop, watched, from, heart);
                Run run = new Run(recipe, backend, student, teacher, texts.train(), watched, metrics, journal, watch.reads() ? Peak.measure(backend) : Double.NaN);
                start.codes(run);
                stages(run, texts.heldOut(), board);
                journal.pause("before the model is written");
                run.bake();
                new HfOut(source, recipe.save().dtype(), versions).write(dir.resolve("model"), student, run.packed());
                Optional<Deployment> deployed = deploy(dir, texts.heldOut());
                Result result = new Result(ledger.rows(), texts.description(), ledger.seconds(), dir, deployed, false);
                ledger.finish();
                if (mlflow != null) mlflow.finished();
                if (!journal.cost().isEmpty()) watch.say(journal.cost());
                files.write(result, fingerprint, environment(), backend.name(), texts);
                return result;
            }
        }
    }

    /** What else the bytes depend on: a run may go on elsewhere, but is told. */
    private Map<String, String> environment() {
        Map<String, String> all = new LinkedHashMap<>(versions);
        if (backend.name().equals("cpu")) all.put("threads", String.valueOf(recipe.threads() == 0 ? Runtime.getRuntime().availableProcessors() : recipe.threads()));
        return all;
    }

    /** Writes the finished model for the recipe's target and proves the file. */
    private Optional<Deployment> deploy(Path dir, Windows heldOut) {
        if (recipe.target().isEmpty()) return Optional.empty();
        var options = Exports.Options.of("embeddings", recipe.save().embeddings(), false);
        return Optional.of(Deployment.of(dir, recipe.target(), options, Deployment.place(dir, recipe.target()), Deployment.some(heldOut), backend));
    }

    private Model fresh(HfModelDir source) {
        Model m = new Model(ModelConfig.of(source.config(), source.dir().resolve("config.json").toString()), backend.memory());
        m.randomize(recipe.seed());
        return m;
    }

    private void stages(Run run, Windows heldOut, Board board) {
        Judge judge = new Judge(run, heldOut, recipe.eval().batch());
        int row = 0;
        if (run.student() != run.source()) judge(run, judge, "fp", row++, board);
        for (Stage stage : recipe.stages()) {
            run.journal().ledger().stageBegins();
            run.perform(stage);
            String variant = stage.variant().isEmpty() ? "" : " (" + stage.variant() + ")";
            if (stage.judged()) judge(run, judge, Methods.nameOf(stage) + variant, row++, board);
        }
    }

    /** Judges what stands now, unless an earlier process did. */
    private void judge(Run run, Judge judge, String name, int row, Board board) {
        Ledger ledger = run.journal().ledger();
        Map<String, Double> notes = run.takeNotes();
        if (board != null) board.codes(name, run.packed().values(), backend.memory());
        if (row < ledger.rows().size()) return;
        double seconds = name.equals("fp") ? 0 : ledger.stageSeconds();
        Judge.Quality q = judge.judge(name.equals("fp"));
        if (!Double.isFinite(q.perplexity()) || !Double.isFinite(q.kl())) {
            throw Fail.numeric("%s: perplexity = %s, KL = %s on held-out text. %s", name, q.perplexity(), q.kl(), name.equals("fp")
                    ? "The weights of " + recipe.model().path() + " hold NaN or too large numbers: export the model again."
                    : "No model was written. Lower this stage's learning rates, or give it more bits.");
        }
        double bits = run.packed().values().stream().mapToDouble(Target.of(recipe.target())::bitsPerWeight).average().orElse(32);
        Row judged = new Row(name, q.perplexity(), q.kl(), q.top1(), bits, seconds, notes);
        ledger.judged(judged);
        run.metrics().judged(judged);
        watch.say("%-14s perplexity %.4g   KL %.4f   top-1 %.1f%%   %.1f s".formatted(name, q.perplexity(), q.kl(), 100 * q.top1(), seconds));
    }
}
