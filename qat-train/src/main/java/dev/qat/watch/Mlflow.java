package dev.qat.watch;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.BooleanSupplier;

/**
 * A run as an MLflow server shows it, over its REST API 2.0: runs/create (or, resumed, runs/update of the run that mlflow.json
 * names), runs/log-batch every few seconds, runs/update at the end. A thread of its own sends; a server that does not answer costs
 * the run nothing but one line of its log.
 *
 * <p>The numbers of a run always come in the same order. So mlflow.json counts those the server has, and a resumed run passes over as
 * many; what earlier processes could not send is sent now. Only a process that dies between a batch and its count sends that one again.
 */
public final class Mlflow implements Onlooker {
    /** What the server takes at most in one batch, and what is kept for one that is away. */
    private static final int BATCH = 1000, KEPT = 100_000;
    private static final Duration TIMEOUT = Duration.ofSeconds(10);
    private static final long LAST_WORDS = 15_000;
    private static final ObjectMapper JSON = new ObjectMapper();

    /** Of the numbers of steps, or else of rows: both are counted for themselves. */
    private record Metric(boolean row, String key, double value, long time, long step) {}

    /** What mlflow.json holds.  @param key of the run it speaks of  @param steps and {@code rows}: numbers the server has, or will never get */
    private record Known(String server, String run, String key, long steps, long rows) {
        Known plus(List<Metric> some) {
            long more = some.stream().filter(Metric::row).count();
            return new Known(server, run, key, steps + some.size() - more, rows + more);
        }
    }

    private final String server, name;
    private final Path file;
    private final Watch watch;
    private final BooleanSupplier stopped;
    private final Duration pause;
    private final HttpClient client = HttpClient.newBuilder().connectTimeout(TIMEOUT).build();
    private final List<Metric> waiting = new ArrayList<>();
    private final Thread sender;
    /** As far as the server and this process agree; no run yet where none was made. */
    private Known known;
    /** Numbers that came by in this process. */
    private long steps, rows, judged, lost;
    private boolean begun;
    private boolean warned, finished, ending;

    /**
     * Goes on with the run that mlflow.json names, where it is this one, and sends from now on.
     *
     * @param server  such as http://mlflow:5000  @param key of what determines the run's numbers: with another one it is another run
     * @param stopped whether the run was asked to end  @param pause between two batches
     */
    public Mlflow(String server, Path run, String name, String key, Watch watch, BooleanSupplier stopped, Duration pause) {
        this.server = server.replaceAll("/+$", "") + "/api/2.0/mlflow/";
        this.name = name;
        this.file = run.resolve("mlflow.json");
        this.watch = watch;
        this.stopped = stopped;
        this.pause = pause;
        known = known(key);
        sender = Thread.ofPlatform().daemon().name("mlflow").start(this::send);
    }

    private Known known(String key) {
        Known none = new Known(server, "", key, 0, 0);
        if (!Files.isRegularFile(file)) return none;
        try {
            Known k = JSON.readValue(file.toFile(), Known.class);
            return k.server.equals(server) && k.key.equals(key) ? k : none;
        } catch (IOException e) {
            watch.say("observe.mlflow: %s cannot be read (%s), so the server is shown a new run".formatted(file, reason(e)));
            return none;
        }
    }

    @Override
    public synchronized void step(String stage, int block, long step, double loss, double norm, double rate, Map<String, Double> more) {
        String at = stage + "/" + (block < 0 ? "train/" : "block/" + block + "/");
        add(false, at + (block < 0 ? "loss" : "recon_loss"), loss, step);
        add(false, at + "grad_norm", norm, step);
        add(false, at + "lr", rate, step);
        more.forEach((key, value) -> add(false, stage + "/" + key, value, step));
    }

    @Override
    public synchronized void judged(Row row) {
        add(true, "eval/ppl", row.perplexity(), judged);
        add(true, "eval/kl", row.kl(), judged);
        add(true, "eval/top1", row.top1(), judged);
        add(true, "eval/bits_per_weight", row.bitsPerWeight(), judged++);
    }

    private void add(boolean row, String key, double value, long step) {
        if (row ? rows++ < known.rows : steps++ < known.steps) return;
        if (waiting.size() == KEPT) {
            known = known.plus(List.of(waiting.removeFirst()));
            lost++;
        }
        waiting.add(new Metric(row, key, value, System.currentTimeMillis(), step));
    }

    /** All is done and well: what {@link #close} tells the server. */
    public void finished() {
        finished = true;
    }

    private void send() {
        boolean last;
        do {
            synchronized (this) {
                try {
                    if (!ending) wait(pause.toMillis());
                } catch (InterruptedException e) {
                    return;
                }
                last = ending;
            }
            try {
                if (!begun) begin();
                while (batch()) { }
                if (last) post("runs/update", JSON.createObjectNode().put("run_id", known.run).put("status", finished ? "FINISHED" : stopped.getAsBoolean() ? "KILLED" : "FAILED").put("end_time", System.currentTimeMillis()));
            } catch (IOException | Fail e) {
                if (!warned) watch.say("observe.mlflow: %s does not take this run's numbers (%s); the run goes on, and they are tried again".formatted(server, reason(e)));
                warned = true;
            } catch (InterruptedException e) {
                return;
            }
        } while (!last);
    }

    private static String reason(Exception e) {
        return e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    }

    /** The run on the server: the one of an earlier process, where there was one, or a new one. */
    private void begin() throws IOException, InterruptedException {
        if (!known.run.isEmpty()) {
            post("runs/update", JSON.createObjectNode().put("run_id", known.run).put("status", "RUNNING"));
            begun = true;
            return;
        }
        String experiment = System.getenv().getOrDefault("MLFLOW_EXPERIMENT_ID", "0");
        JsonNode made = post("runs/create", JSON.createObjectNode().put("experiment_id", experiment).put("run_name", name).put("start_time", System.currentTimeMillis()));
        String given = made.path("run").path("info").path("run_id").asText();
        if (given.isEmpty()) throw new IOException("it answers runs/create without a run_id");
        synchronized (this) {
            known = new Known(server, given, known.key, known.steps, known.rows);
        }
        begun = true;
        keep();
    }

    private void keep() throws IOException {
        Known now;
        synchronized (this) {
            now = known;
        }
        AtomicFile.write(file, JSON.writeValueAsString(now) + "\n");
    }

    /** Sends what waits, a batch of it; false when there was nothing. */
    private boolean batch() throws IOException, InterruptedException {
        List<Metric> some;
        long before;
        synchronized (this) {
            before = lost;
            some = List.copyOf(waiting.subList(0, Math.min(BATCH, waiting.size())));
        }
        if (some.isEmpty()) return false;
        ObjectNode body = JSON.createObjectNode().put("run_id", known.run);
        ArrayNode metrics = body.putArray("metrics");
        for (Metric m : some) metrics.addObject().put("key", m.key).put("value", m.value).put("timestamp", m.time).put("step", m.step);
        post("runs/log-batch", body);
        synchronized (this) {
            List<Metric> gone = waiting.subList(0, (int) Math.max(0, some.size() - (lost - before)));
            known = known.plus(gone);
            gone.clear();
        }
        keep();
        return true;
    }

    private JsonNode post(String what, ObjectNode body) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(server + what)).timeout(TIMEOUT).header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body.toString())).build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new IOException("%s: HTTP %d %.200s".formatted(what, answer.statusCode(), answer.body().strip()));
        return JSON.readTree(answer.body());
    }

    /** Sends what is left, for a few seconds at most. */
    @Override
    public void close() {
        synchronized (this) {
            ending = true;
            notifyAll();
        }
        try {
            sender.join(LAST_WORDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        sender.interrupt();
        client.shutdownNow();
    }
}
