package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cuda.StandIn;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.opentest4j.TestAbortedException;

/**
 * Every driver, in a process of its own, killed with SIGKILL at random moments between its first and its last instant and run
 * again to its end: the result is that of a run left alone, on the CPU and on the stand-in CUDA. {@code -Dqat.kills=50} kills
 * each of them more often, {@code -Dqat.drivers=REGEX} chooses some.
 */
final class KillEveryDriverTest {
    private static final int MOST_OF_ONE_RUN = 10;
    private static final String CHOSEN = System.getProperty("qat.drivers", ".*");
    private static final Path MODEL = Path.of(System.getProperty("qat.root", ".")).toAbsolutePath().normalize().resolve("examples/models/shakespeare-3m");
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<String, String> STAGES = new TreeMap<>(Map.of(
            "calibrate", "{method: smoothquant}, {method: gptq, bits: 3, group: 12}, {method: kv-balance, batch: 2}, {method: awq, bits: 3, group: 12}, {method: gptq, bits: 4, group: 12, order: true}, {method: static, batch: 8}",
            "block-wise", "{method: rtn, bits: 3, group: 12}, {method: block-ap, bits: 3, group: 12, epochs: 6, batch: 4, shuffle: true}",
            "end-to-end", "{method: rtn, bits: 3, group: 12}, {method: e2e-qp, epochs: 16, batch: 4, shuffle: true, loss: distill}"));

    @TempDir
    static Path temp;
    private static TinyDir dir;

    @BeforeAll
    static void prepare() throws IOException {
        dir = TinyDir.in(temp);
        Files.writeString(temp.resolve("generate.yaml"), """
                name: none
                model: {path: %s}
                output: %s/runs
                threads: 1
                generate: {sequences: 60, length: 40, batch: 6, shard: 30}
                compare: {windows: 4}
                """.formatted(MODEL, temp));
    }

    /** A driver on a backend. */
    private record Case(String driver, String backend) {
        Life begin(String name) throws IOException {
            boolean cuda = backend.equals("cuda");
            List<String> words = new ArrayList<>(driver.equals("generate") ? List.of("generate", temp.resolve("generate.yaml").toString())
                    : List.of("train", dir.recipe(), "precision=fp32", "checkpoint.steps=3", "data.samples=8", "stages=[" + STAGES.get(driver) + "]"));
            words.addAll(List.of("name=" + name, "backend=" + backend));
            if (driver.equals("generate") && cuda) words.addAll(List.of("model.path=" + dir.path("model"), "generate.length=24")); // the stand-in takes its time
            return new Life(temp, temp.resolve("runs").resolve(name), cuda ? StandIn.environment(StandIn.target().resolve("standin-cache")) : Map.of(), words);
        }

        @Override
        public String toString() {
            return driver + "-" + backend;
        }
    }

    @TestFactory
    Stream<DynamicTest> killedAtAnyMomentItEndsInTheSameBytes() {
        List<Case> cases = new ArrayList<>();
        for (String driver : Stream.concat(Stream.of("generate"), STAGES.keySet().stream()).toList()) for (String backend : List.of("cpu", "cuda")) cases.add(new Case(driver, backend));
        return cases.stream().filter(c -> c.toString().matches(CHOSEN)).map(c -> dynamicTest(c.toString(), () -> kill(c)));
    }

    private static void kill(Case c) throws Exception {
        if (c.backend.equals("cuda") && !StandIn.standing()) throw new TestAbortedException("on a device, as -Dqat.cuda=device, nothing is killed");
        long begun = System.nanoTime();
        Life whole = c.begin(c + "-whole");
        assertEquals(0, whole.end(), whole.said());
        int span = milliseconds(begun);
        Random random = new Random(c.toString().hashCode());
        int wanted = Integer.getInteger("qat.kills", c.backend.equals("cuda") ? 1 : 2), runs = 0, done = 0;
        while (done < wanted) {
            String name = c + "-" + runs++;
            int kills = 0;
            while (true) {
                begun = System.nanoTime();
                Life l = c.begin(name);
                if (kills < MOST_OF_ONE_RUN && done < wanted && l.killedAfter(random.nextInt(span))) {
                    kills++;
                    done++;
                    continue;
                }
                assertEquals(0, l.end(), l.said());
                if (kills == 0) span = Math.min(span, milliseconds(begun)); // the first run compiled kernels
                break;
            }
            assertSame(whole.run, temp.resolve("runs").resolve(name));
        }
        System.out.printf("KillEveryDriverTest: %s, a run of %d ms: %d kills in %d runs, all the same bytes%n", c, span, done, runs);
    }

    private static int milliseconds(long since) {
        return (int) ((System.nanoTime() - since) / 1_000_000);
    }

    private static void assertSame(Path a, Path b) throws IOException {
        assertEquals(bytes(a).keySet(), bytes(b).keySet(), b + ": other files");
        for (Map.Entry<String, byte[]> e : bytes(a).entrySet()) assertArrayEquals(e.getValue(), bytes(b).get(e.getKey()), b + ": " + e.getKey());
        if (!Files.exists(a.resolve("result.json"))) return;
        assertEquals(lines(a), lines(b), b + ": metrics");
        JsonNode x = JSON.readTree(a.resolve("result.json").toFile()), y = JSON.readTree(b.resolve("result.json").toFile());
        assertTrue(x.get("stages").size() > 1);
        for (String column : List.of("perplexity", "kl", "top1")) assertEquals(x.get("stages").findValues(column), y.get("stages").findValues(column), b + ": " + column);
    }

    /** What must be the same to the last byte: a trained model, or every file of a generated set. */
    private static Map<String, byte[]> bytes(Path run) throws IOException {
        Path folder = Files.isDirectory(run.resolve("model")) ? run.resolve("model") : run;
        Map<String, byte[]> all = new TreeMap<>();
        try (Stream<Path> files = Files.list(folder)) {
            for (Path f : files.toList()) all.put(f.getFileName().toString(), Files.readAllBytes(f));
        }
        return all;
    }

    private static List<JsonNode> lines(Path run) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(run.resolve("metrics.jsonl"))) lines.add(((ObjectNode) JSON.readTree(line)).without("seconds"));
        return lines;
    }
}
