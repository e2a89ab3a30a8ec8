package dev.qat.watch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.method.BlockAp;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Part;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Stop;
import dev.qat.train.TinyModels;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The MLflow client against a small HTTP server that refuses what MLflow's own would: unknown runs, batches of more than a thousand. */
final class MlflowTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path temp;
    private HttpServer server;
    private volatile int broken;
    private int created, batches;
    private volatile int refused;
    private final List<String> states = new ArrayList<>(), said = new ArrayList<>();
    private final Map<String, List<Double>> metrics = new TreeMap<>();
    private final Map<String, List<Long>> steps = new TreeMap<>();
    private Recipe.Checkpoint checkpoint = Recipe.Checkpoint.DEFAULTS;
    private int dieAt;

    private static final class Killed extends Error {
        private static final long serialVersionUID = 1;
    }

    @BeforeEach
    void listen() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/api/2.0/mlflow/runs/", this::answer);
        server.start();
    }

    @AfterEach
    void close() {
        server.stop(0);
    }

    private String address() {
        return "http://localhost:" + server.getAddress().getPort();
    }

    private synchronized void answer(HttpExchange call) throws IOException {
        JsonNode body = JSON.readTree(call.getRequestBody());
        String what = call.getRequestURI().getPath().replaceAll(".*/", "");
        String says = "{}";
        int code = 200;
        if (broken-- > 0) code = 503;
        else if (what.equals("create")) says = "{\"run\": {\"info\": {\"run_id\": \"run" + ++created + "\", \"status\": \"RUNNING\"}}}";
        else if (created == 0 || !body.path("run_id").asText().equals("run" + created)) code = 404;
        else if (what.equals("update")) states.add(body.get("status").asText());
        else if (!what.equals("log-batch") || body.get("metrics").size() > 1000) code = 400;
        else {
            batches++;
            for (JsonNode m : body.get("metrics")) {
                assertTrue(Math.abs(m.get("timestamp").asLong() - System.currentTimeMillis()) < 60_000);
                metrics.computeIfAbsent(m.get("key").asText(), _ -> new ArrayList<>()).add(m.get("value").asDouble());
                steps.computeIfAbsent(m.get("key").asText(), _ -> new ArrayList<>()).add(m.get("step").asLong());
            }
        }
        if (code != 200) refused++;
        byte[] bytes = says.getBytes();
        call.sendResponseHeaders(code, bytes.length);
        call.getResponseBody().write(bytes);
        call.close();
    }

    /** Keeps what is said, and asks for an end after the third step of Block-AP; dies after a step of it where one is given. */
    private Watch watch(Stop stop) {
        return new Witness((title, done) -> {
            if (stop != null && title.equals("block-ap") && done == 3) stop.ask("the test");
            if (title.equals("block-ap") && done == dieAt) throw new Killed();
        }, said);
    }

    private Runner.Result run(String name, String mlflow, Stop stop) {
        try (Backend b = new CpuBackend(1)) {
            if (!Files.exists(temp.resolve("model"))) TinyModels.write(temp.resolve("model"), b, 7);
            Recipe r = new Recipe(name, new Recipe.Source(temp.resolve("model"), Recipe.Init.LOAD), "cpu", Precision.FP32, false, 1, 3, temp.resolve("runs"),
                    new Recipe.Data(List.of(), List.of(), 0, 16, 0, 16, 1, 0, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS, checkpoint,
                    Recipe.Recovery.DEFAULTS, new Recipe.Observe(false, 0, mlflow), "", List.of(new Rtn(2, 32), new BlockAp(2, 32, 4, 4, 3e-3, 3e-3, 0.05, Part.ALL, true)));
            return Runner.run(r, "", Map.of("qat", "test"), b, watch(stop), stop == null ? new Stop() : stop);
        }
    }

    private List<Double> losses(String name, int block) throws IOException {
        List<Double> all = new ArrayList<>();
        for (String line : Files.readAllLines(temp.resolve("runs").resolve(name).resolve("metrics.jsonl"))) {
            JsonNode n = JSON.readTree(line);
            if (n.get("block").asInt() == block) all.add(n.get("train/loss").asDouble());
        }
        return all;
    }

    @Test
    void everyNumberOfARunArrives() throws IOException {
        Runner.Result result = run("whole", address(), null);
        assertEquals(List.of("FINISHED"), states);
        for (int block = 0; block < 2; block++) assertEquals(losses("whole", block), metrics.get("block-ap/block/" + block + "/recon_loss"));
        assertEquals(result.rows().stream().map(Row::perplexity).toList(), metrics.get("eval/ppl"));
        assertEquals(List.of(), said.stream().filter(s -> s.contains("mlflow")).toList());
    }

    private void assertEveryNumberOnce(String name, Runner.Result result) throws IOException {
        for (int block = 0; block < 2; block++) assertEquals(losses(name, block), metrics.get("block-ap/block/" + block + "/recon_loss"));
        assertEquals(result.rows().stream().map(Row::perplexity).toList(), metrics.get("eval/ppl"));
        for (String key : List.of("block-ap/block/0/lr", "block-ap/block/1/grad_norm")) assertEquals(LongStream.range(0, 16).boxed().toList(), steps.get(key), key);
        assertEquals(List.of(0L, 1L, 2L), steps.get("eval/ppl"), "fp, rtn, block-ap");
    }

    /** A run that is stopped is KILLED, and goes on under the same id. */
    @Test
    void aResumedRunIsTheSameRun() throws IOException {
        assertEquals(Fail.AGAIN, assertThrows(Fail.class, () -> run("again", address(), new Stop())).code());
        assertEveryNumberOnce("again", run("again", address(), null));
        assertEquals(List.of("KILLED", "RUNNING", "FINISHED"), states);
        assertEquals(1, created);
    }

    /** Without a checkpoint of them, steps are taken again that the server was shown. */
    @Test
    void stepsThatAreTakenAgainAreNotSentAgain() throws IOException {
        for (int at : List.of(18, 7, 23)) {
            dieAt = at;
            assertThrows(Killed.class, () -> run("dies", address(), null));
        }
        dieAt = 0;
        assertEveryNumberOnce("dies", run("dies", address(), null));
        assertEquals(1, created);
    }

    /** What a process could not send, the next one does, though it takes none of those steps. */
    @Test
    void whatAnEarlierProcessCouldNotSendIsSentByTheNext() throws IOException {
        broken = Integer.MAX_VALUE;
        assertThrows(Fail.class, () -> run("away", address(), new Stop()));
        broken = 0;
        assertEveryNumberOnce("away", run("away", address(), null));
    }

    @Test
    void aRunThatIsBegunAnewIsAnotherRun() {
        run("anew", address(), null);
        checkpoint = new Recipe.Checkpoint(10, 0, 2, Recipe.Resume.NEVER);
        run("anew", address(), null);
        assertEquals(2, created);
        assertEquals(32, steps.get("block-ap/block/0/lr").size());
    }

    @Test
    void aServerThatIsAwayStopsNothingAndIsToldOfOnce() {
        run("alone", "http://localhost:1", null);
        assertEquals(1, said.stream().filter(s -> s.contains("observe.mlflow: http://localhost:1")).count(), said.toString());
        assertFalse(Files.exists(temp.resolve("runs/alone/mlflow.json")));
    }

    /** What could not be sent is sent later, in batches the server takes, each number once and in order. */
    @Test
    void whatWaitedArrivesWhenTheServerIsBack() throws Exception {
        broken = 3;
        Files.createDirectories(temp.resolve("late"));
        List<Double> sent = new ArrayList<>();
        try (Mlflow m = new Mlflow(address() + "/", temp.resolve("late"), "late", "a key", watch(null), () -> false, Duration.ofMillis(20))) {
            for (int i = 0; i < 1500; i++) {
                m.step("e2e-qp", -1, i, i * 0.5, 1, 1e-4, Map.of());
                sent.add(i * 0.5);
                if (i % 100 == 0) Thread.sleep(10);
            }
            while (refused < 3) Thread.sleep(5); // the server is back before the last words
            m.finished();
        }
        assertEquals(sent, metrics.get("e2e-qp/train/loss"));
        assertEquals(3, refused);
        assertTrue(batches >= 5, "4500 numbers in " + batches + " batches");
        assertEquals(1, said.size(), said.toString());
        assertEquals(List.of("FINISHED"), states);
    }

    @Test
    void aKeyThatIsNoAddressIsRefused() {
        for (String bad : List.of("mlflow:5000", "http://", "http://a b", "ftp://x")) assertEquals(Fail.USAGE, assertThrows(Fail.class, () -> new Recipe.Observe(true, 0, bad)).code(), bad);
    }
}
