package dev.qat.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.tensor.Fail;
import dev.qat.watch.Pulse;
import dev.qat.watch.Row;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * How a run stands, read from its directory alone.
 *
 * @param state      running, interrupted (its process died: run it again), stopped, failed, finished, or unknown
 * @param checkpoint when and where the newest checkpoint was taken; empty for none
 */
public record RunStatus(String name, Path directory, String state, Pulse pulse, List<Row> rows, String checkpoint, long checkpointBytes) {
    public static final String INTERRUPTED = "interrupted";

    public static RunStatus of(Path run) {
        return of(run, run.toAbsolutePath().normalize().getFileName().toString());
    }

    private static RunStatus of(Path run, String name) {
        Pulse pulse = Pulse.of(run);
        Checkpoints checkpoints = new Checkpoints(RunFiles.folder(run), 1);
        var newest = checkpoints.peek();
        List<Row> rows = newest.map(Checkpoints.Manifest::rows).orElse(List.of());
        Path result = run.resolve("result.json");
        if (newest.isEmpty() && Files.isRegularFile(result)) rows = rows(result);
        String state = pulse == null ? Files.isRegularFile(result) ? Pulse.FINISHED : "unknown"
                : pulse.state().equals(Pulse.RUNNING) && !RunFiles.atWork(run) ? INTERRUPTED : pulse.state();
        return new RunStatus(name, run, state, pulse, rows,
                newest.map(RunStatus::words).orElse(""), newest.map(m -> m.files().stream().mapToLong(Checkpoints.Stored::bytes).sum()).orElse(0L));
    }

    private static String words(Checkpoints.Manifest m) {
        Checkpoints.Place p = m.place();
        return m.written() + (p == null ? ", between two loops" : ", step %d of %d of %s%s".formatted(p.step(), p.steps(), p.stage(), p.block() < 0 ? "" : ", block " + p.block()));
    }

    private static List<Row> rows(Path result) {
        List<Row> rows = new ArrayList<>();
        try {
            for (JsonNode s : new ObjectMapper().readTree(result.toFile()).path("stages")) {
                Map<String, Double> notes = new LinkedHashMap<>();
                s.path("notes").properties().forEach(e -> notes.put(e.getKey(), e.getValue().asDouble()));
                rows.add(new Row(s.path("name").asText(), s.path("perplexity").asDouble(), s.path("kl").asDouble(), s.path("top1").asDouble(),
                        s.path("bits_per_weight").asDouble(), s.path("seconds").asDouble(), notes));
            }
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", result, e.getMessage());
        }
        return rows;
    }

    public boolean finished() {
        return state.equals(Pulse.FINISHED);
    }

    /** The runs of a directory that is one, or holds some, or folders of some as a sweep's are; by name. */
    public static List<RunStatus> in(Path dir) {
        if (isRun(dir)) return List.of(of(dir));
        if (!Files.isDirectory(dir)) throw Fail.usage("%s: no such directory, expected a run or a directory of runs", dir);
        try (Stream<Path> all = Files.walk(dir, 2)) {
            return all.filter(RunStatus::isRun).sorted().map(run -> of(run, dir.relativize(run).toString())).toList();
        } catch (IOException | UncheckedIOException e) {
            throw Fail.io(e, "%s: cannot read: %s", dir, e.getMessage());
        }
    }

    private static boolean isRun(Path dir) {
        return Files.isRegularFile(dir.resolve("status.json")) || Files.isRegularFile(dir.resolve("result.json")) && Files.isRegularFile(dir.resolve("recipe.yaml"));
    }

    /** Since the pulse was last written; zero without one. */
    public Duration silence() {
        return pulse == null ? Duration.ZERO : Duration.between(Instant.parse(pulse.updated()), Instant.now());
    }
}
