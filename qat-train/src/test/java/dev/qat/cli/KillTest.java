package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The real command in a process of its own, killed with SIGKILL at random moments and run again to its end; ended with TERM and
 * USR1; stopped by a full disk. Always the result is that of a run left alone. {@code -Dqat.kills=50} kills more often.
 */
final class KillTest {
    private static final int KILLS = Integer.getInteger("qat.kills", 6);
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    static Path temp;
    static TinyDir dir;

    @BeforeAll
    static void prepare() throws Exception {
        dir = TinyDir.in(temp);
        assertEquals(0, new Life("whole").end());
    }

    /** One process of a run called {@code name}. */
    private static final class Life {
        final Process process;
        final Path run;
        private final File log;
        private final long before;

        Life(String name) throws IOException {
            run = temp.resolve("runs").resolve(name);
            log = File.createTempFile(name, ".log", temp.toFile());
            before = Files.exists(metrics()) ? Files.getLastModifiedTime(metrics()).toMillis() : 0;
            List<String> command = List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "--add-modules", "jdk.incubator.vector",
                    "--enable-native-access=ALL-UNNAMED", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"), "dev.qat.cli.Main",
                    "train", dir.recipe(), "name=" + name, "checkpoint.steps=3", "data.samples=8", "stages.block-ap.epochs=4", "stages.block-ap.shuffle=true",
                    "stages.e2e-qp.epochs=12", "stages.e2e-qp.shuffle=true", "stages.e2e-qp.loss=distill");
            process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log).start();
        }

        private Path metrics() {
            return run.resolve("metrics.jsonl");
        }

        /** Waits until this process has taken a step, or is over. */
        void begun() throws Exception {
            while (process.isAlive() && !(Files.exists(metrics()) && Files.size(metrics()) > 0 && Files.getLastModifiedTime(metrics()).toMillis() != before)) Thread.sleep(1);
        }

        /** Waits until this process has made so many checkpoints, or is over. */
        void advanced(int checkpoints) throws Exception {
            begun();
            for (int from = newest(); process.isAlive() && newest() < from + checkpoints; ) Thread.sleep(1);
        }

        /** Number of the newest manifest; 0 for none. */
        private int newest() {
            String[] names = run.resolve("checkpoints").toFile().list((_, name) -> name.matches("\\d{8}\\.json"));
            return names == null ? 0 : Arrays.stream(names).mapToInt(n -> Integer.parseInt(n.substring(0, 8))).max().orElse(0);
        }

        int end() throws Exception {
            assertTrue(process.waitFor(120, TimeUnit.SECONDS), "it hangs: " + said());
            return process.exitValue();
        }

        String said() throws IOException {
            return Files.readString(log.toPath());
        }
    }

    private static void assertAsWhole(String name) throws IOException {
        Path a = temp.resolve("runs/whole"), b = temp.resolve("runs").resolve(name);
        for (String file : List.of("model/packed.safetensors", "model/model.safetensors")) {
            assertArrayEquals(Files.readAllBytes(a.resolve(file)), Files.readAllBytes(b.resolve(file)), name + ": " + file);
        }
        assertEquals(lines(a), lines(b), name);
        JsonNode x = JSON.readTree(a.resolve("result.json").toFile()), y = JSON.readTree(b.resolve("result.json").toFile());
        for (String column : List.of("perplexity", "kl", "top1")) assertEquals(x.get("stages").findValues(column), y.get("stages").findValues(column), name);
    }

    private static List<JsonNode> lines(Path run) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(run.resolve("metrics.jsonl"))) lines.add(((ObjectNode) JSON.readTree(line)).without("seconds"));
        return lines;
    }

    @Test
    void killedAtAnyMomentItEndsInTheSameBytes() throws Exception {
        Random random = new Random(8);
        int kills = 0, runs = 0;
        while (kills < KILLS) {
            String name = "killed" + runs++;
            for (int life = 0; ; life++) {
                assertTrue(life < 60, name + " makes no headway");
                Life l = new Life(name);
                // every fourth one anywhere, also while it starts; the others after some checkpoints, at any moment of the next
                boolean anywhere = random.nextInt(4) == 0;
                if (!anywhere) l.advanced(random.nextInt(20));
                if (!l.process.waitFor(random.nextInt(anywhere ? 2000 : 60), TimeUnit.MILLISECONDS)) {
                    l.process.destroyForcibly();
                    kills++;
                }
                int code = l.end();
                if (code == 0) break;
                assertEquals(128 + 9, code, l.said());
            }
            assertAsWhole(name);
        }
        System.out.println("KillTest: " + kills + " kills in " + runs + " runs");
    }

    @Test
    void termAndUsr1EndWithACheckpointAnd75() throws Exception {
        for (String signal : List.of("TERM", "USR1")) {
            String name = "signal-" + signal;
            Life l = new Life(name);
            l.begun();
            new ProcessBuilder("kill", "-" + signal, String.valueOf(l.process.pid())).start().waitFor();
            assertEquals(Fail.AGAIN, l.end(), l.said());
            assertTrue(l.said().contains("Run the same command again"), l.said());
            Life second = new Life(name);
            assertEquals(0, second.end(), second.said());
            assertTrue(second.said().contains("resum"), second.said());
            assertAsWhole(name);
        }
    }

    /** A limit on the size of files, set while it runs, stands in for a full disk: writing fails in the same way. */
    @Test
    void whenNothingCanBeWrittenTheLastCheckpointStands() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/prlimit")), "SKIPPED: no prlimit here, so no disk can be full");
        Life full = new Life("full");
        full.begun();
        new ProcessBuilder("/usr/bin/prlimit", "--pid", String.valueOf(full.process.pid()), "--fsize=20000:20000").inheritIO().start().waitFor();
        assertEquals(Fail.IO, full.end(), full.said());
        assertTrue(full.said().contains("cannot write"), full.said());
        Life last = new Life("full");
        assertEquals(0, last.end(), last.said());
        assertTrue(last.said().contains("resum"), last.said());
        assertAsWhole("full");
    }

    @Test
    void whenTheOutputDirectoryGoesTheRunEndsWithASentence() throws Exception {
        Life l = new Life("lost");
        l.begun();
        Files.move(l.run, l.run.resolveSibling("elsewhere"));
        assertEquals(Fail.IO, l.end(), l.said());
        assertTrue(l.said().lines().anyMatch(line -> line.startsWith("qat: ") && line.contains("lost")), l.said());
        Files.move(l.run.resolveSibling("elsewhere"), l.run);
        assertEquals(0, new Life("lost").end());
        assertAsWhole("lost");
    }
}
