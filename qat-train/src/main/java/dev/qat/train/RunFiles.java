package dev.qat.train;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.data.Sha256;
import dev.qat.tensor.Fail;
import dev.qat.train.Checkpoints.Manifest;
import dev.qat.watch.Heart;
import dev.qat.watch.Pulse;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** The directory of a run while one process works on it: who may begin, resume, or need not run at all; and the closing result.json. */
public final class RunFiles implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Recipe recipe;
    private final Path dir;
    private final Watch watch;
    private final Checkpoints checkpoints;
    private final FileChannel lock;
    private Heart heart;

    private RunFiles(Recipe recipe, Watch watch, FileChannel lock) {
        this.recipe = recipe;
        this.dir = recipe.directory();
        this.watch = watch;
        this.lock = lock;
        this.checkpoints = new Checkpoints(folder(dir), recipe.checkpoint().keep());
    }

    static Path folder(Path run) {
        return run.resolve("checkpoints");
    }

    /** Makes a folder in the run's directory, which must still be there: one that is made anew would lack what it held. */
    static void make(Path folder) {
        if (Files.isDirectory(folder)) return;
        try {
            Files.createDirectory(folder);
        } catch (IOException e) {
            throw Fail.io(e, "cannot create %s: %s. Is the output directory still there, and may it be written to?", folder, e);
        }
    }

    /** Takes the directory for this process; the system gives it back when the process dies. */
    static RunFiles open(Recipe recipe, Watch watch) {
        Path dir = recipe.directory();
        try {
            Files.createDirectories(dir);
            FileChannel file = FileChannel.open(dir.resolve(".lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
            if (!locked(file)) {
                file.close();
                throw Fail.usage("%s: another qat is at work there. Wait for it, or choose another name=.", dir);
            }
            return new RunFiles(recipe, watch, file);
        } catch (IOException e) {
            throw Fail.io(e, "cannot create %s: %s. Choose a directory you may write to with output=DIR.", dir, e);
        }
    }

    private static boolean locked(FileChannel file) {
        try {
            FileLock lock = file.tryLock();
            return lock != null;
        } catch (OverlappingFileLockException e) {
            return false;
        } catch (IOException e) {
            return true; // a file system without locks: nobody can be kept out
        }
    }

    Checkpoints checkpoints() {
        return checkpoints;
    }

    /** The run is at work from here on; its pulse is shown until it ends. */
    Heart begin() {
        heart = new Heart(dir);
        return heart;
    }

    /** Says in status.json why the run ended; a process that never began leaves what stands there. */
    void failed(RuntimeException why) {
        if (heart != null) heart.end(why instanceof Fail f && f.code() == Fail.AGAIN ? Pulse.STOPPED : Pulse.FAILED, String.valueOf(why.getMessage()));
    }

    /** Whether a process works in this directory now. */
    public static boolean atWork(Path dir) {
        Path file = dir.resolve(".lock");
        if (!Files.isRegularFile(file)) return false;
        try (FileChannel lock = FileChannel.open(file, StandardOpenOption.WRITE)) {
            return !locked(lock);
        } catch (IOException e) {
            return false; // it may only be read: what the pulse says has to do
        }
    }

    /** Sampled text depends on the model, the recipe's data keys and the code. */
    Samples samples(Map<String, String> fingerprint, Stop stop) {
        Sha256 key = new Sha256();
        fingerprint.forEach((name, value) -> {
            if (!name.startsWith("recipe.") || name.startsWith("recipe.data.") || name.equals("recipe.seed") || name.equals("recipe.precision")) key.add(name).add(value);
        });
        return new Samples(checkpoints.folder(), recipe.checkpoint().keep() > 0, key.hex(), stop, watch::say);
    }

    /** The result of a run of this fingerprint that is finished already. */
    Optional<Runner.Result> finished(Map<String, String> fingerprint) {
        Path file = dir.resolve("result.json");
        if (recipe.checkpoint().resume() == Recipe.Resume.NEVER || !Files.isRegularFile(file)) return Optional.empty();
        try {
            JsonNode r = JSON.readTree(Files.readAllBytes(file));
            Map<String, String> made = new LinkedHashMap<>();
            r.path("fingerprint").properties().forEach(e -> made.put(e.getKey(), e.getValue().asText()));
            List<String> other = new ArrayList<>(Fingerprint.differences(made, fingerprint));
            other.removeIf(line -> line.startsWith("data:")); // a hash that is only known once the text is read or sampled
            if (!other.isEmpty()) {
                if (checkpoints.peek().isEmpty()) watch.say("%s holds the finished result of another run, which this one will replace (%s)".formatted(dir, String.join("; ", other)));
                return Optional.empty();
            }
            List<Row> rows = new ArrayList<>();
            for (JsonNode s : r.path("stages")) {
                rows.add(new Row(s.path("name").asText(), s.path("perplexity").asDouble(), s.path("kl").asDouble(), s.path("top1").asDouble(),
                        s.path("bits_per_weight").asDouble(), s.path("seconds").asDouble(),
                        s.has("notes") ? JSON.convertValue(s.get("notes"), new TypeReference<Map<String, Double>>() {}) : Map.of()));
            }
            checkpoints.clear();
            watch.say("%s: this run is finished, there is nothing to do. checkpoint.resume=never runs it again.".formatted(dir));
            return Optional.of(new Runner.Result(rows, r.path("held_out").asText(), r.path("seconds").asDouble(), dir, Optional.empty(), true));
        } catch (IOException e) {
            return Optional.empty(); // an older result that cannot be read is replaced
        }
    }

    /** The checkpoint to go on from; null for a run that begins. */
    Manifest resume(Map<String, String> fingerprint, Map<String, String> environment) {
        Recipe.Resume how = recipe.checkpoint().resume();
        if (how == Recipe.Resume.NEVER) {
            checkpoints.clear();
            forget();
            return null;
        }
        // another recipe is refused before a damaged file is looked for
        checkpoints.peek().ifPresent(m -> refuseOther(m, fingerprint));
        Optional<Manifest> found = checkpoints.latest(watch::say);
        if (found.isEmpty()) {
            if (how == Recipe.Resume.MUST) throw Fail.usage("%s holds no checkpoint to go on from, and checkpoint.resume=must asks for one", dir);
            return null;
        }
        Manifest m = found.get();
        refuseOther(m, fingerprint);
        watch.say("resuming from the checkpoint of %s in %s".formatted(m.written(), checkpoints.folder()));
        Path metrics = dir.resolve("metrics.jsonl");
        long bytes = metrics.toFile().length(); // 0 for a file that is gone
        if (bytes < m.metrics()) watch.say("%s has %,d bytes where the checkpoint counts %,d: what it said of earlier steps is lost, the run itself is not".formatted(metrics, bytes, m.metrics()));
        List<String> elsewhere = Fingerprint.differences(m.environment(), environment);
        if (!elsewhere.isEmpty()) watch.say("the checkpoint was taken elsewhere, so the bytes may differ from those of an uninterrupted run: " + String.join("; ", elsewhere));
        return m;
    }

    /** Else a run that is begun again and interrupted would look finished, and a tracking server would be shown nothing of it. */
    private void forget() {
        try {
            for (String file : List.of("result.json", "mlflow.json")) Files.deleteIfExists(dir.resolve(file));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot remove the result of the run before: %s", dir, e);
        }
    }

    /** Refuses a checkpoint of another run; names that {@code now} does not know yet are not compared. */
    void refuseOther(Manifest m, Map<String, String> now) {
        Map<String, String> then = new LinkedHashMap<>(m.fingerprint());
        if (!now.containsKey("data")) then.remove("data");
        List<String> other = Fingerprint.differences(then, now);
        if (!other.isEmpty()) {
            throw Fail.usage("%s holds the checkpoints of another run, which this one cannot go on from:%n  %s%nTake the change back, choose another name=, or start over with checkpoint.resume=never.",
                    dir, String.join("\n  ", other));
        }
    }

    /** Writes result.json; from then on the run is finished and its checkpoints are removed. */
    void write(Runner.Result result, Map<String, String> fingerprint, Map<String, String> environment, String backend, Texts texts) {
        ObjectNode out = JSON.createObjectNode();
        out.put("model", recipe.model().path().toString()).put("recipe", recipe.name()).put("seed", recipe.seed());
        out.put("backend", backend).put("held_out", texts.description());
        out.put("train_windows", texts.train().all().count()).put("window_length", texts.train().all().length());
        out.set("versions", JSON.<JsonNode>valueToTree(environment));
        out.set("fingerprint", JSON.<JsonNode>valueToTree(fingerprint));
        out.put("seconds", result.seconds());
        ArrayNode stages = out.putArray("stages");
        for (Row r : result.rows()) {
            ObjectNode stage = stages.addObject().put("name", r.name()).put("perplexity", r.perplexity()).put("kl", r.kl()).put("top1", r.top1())
                    .put("bits_per_weight", r.bitsPerWeight()).put("seconds", r.seconds());
            if (!r.notes().isEmpty()) stage.set("notes", JSON.<JsonNode>valueToTree(r.notes()));
        }
        result.deployment().ifPresent(d -> out.set("export", d.json()));
        AtomicFile.write(dir.resolve("result.json"), out.toPrettyString() + "\n");
        checkpoints.clear();
        heart.end(Pulse.FINISHED, "");
    }

    @Override
    public void close() {
        if (heart != null) heart.close();
        try {
            lock.close();
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot let the directory go: %s", dir, e);
        }
    }
}
