package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The real command in a process of its own, ended with TERM and USR1, stopped by a full disk, robbed of its directory, and run
 * again: always the result is that of a run left alone. {@link KillEveryDriverTest} sends SIGKILL.
 */
final class StopTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    static Path temp;
    static TinyDir dir;

    @BeforeAll
    static void prepare() throws Exception {
        dir = TinyDir.in(temp);
        assertEquals(0, life("whole").end());
    }

    private static Life life(String name) throws IOException {
        return new Life(temp, temp.resolve("runs").resolve(name), Map.of(), List.of("train", dir.recipe(), "name=" + name, "checkpoint.steps=3", "data.samples=8",
                "stages.block-ap.epochs=4", "stages.block-ap.shuffle=true", "stages.e2e-qp.epochs=12", "stages.e2e-qp.shuffle=true", "stages.e2e-qp.loss=distill"));
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
    void termAndUsr1EndWithACheckpointAnd75() throws Exception {
        for (String signal : List.of("TERM", "USR1")) {
            String name = "signal-" + signal;
            Life l = life(name);
            l.begun();
            new ProcessBuilder("kill", "-" + signal, String.valueOf(l.process.pid())).start().waitFor();
            assertEquals(Fail.AGAIN, l.end(), l.said());
            assertTrue(l.said().contains("Run the same command again"), l.said());
            Life second = life(name);
            assertEquals(0, second.end(), second.said());
            assertTrue(second.said().contains("resum"), second.said());
            assertAsWhole(name);
        }
    }

    /** A limit on the size of files, set while it runs, stands in for a full disk: writing fails in the same way. */
    @Test
    void whenNothingCanBeWrittenTheLastCheckpointStands() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/prlimit")), "SKIPPED: no prlimit here, so no disk can be full");
        Life full = life("full");
        full.begun();
        new ProcessBuilder("/usr/bin/prlimit", "--pid", String.valueOf(full.process.pid()), "--fsize=20000:20000").inheritIO().start().waitFor();
        assertEquals(Fail.IO, full.end(), full.said());
        assertTrue(full.said().contains("cannot write"), full.said());
        Life last = life("full");
        assertEquals(0, last.end(), last.said());
        assertTrue(last.said().contains("resum"), last.said());
        assertAsWhole("full");
    }

    @Test
    void whenTheOutputDirectoryGoesTheRunEndsWithASentence() throws Exception {
        Life l = life("lost");
        l.begun();
        Files.move(l.run, l.run.resolveSibling("elsewhere"));
        assertEquals(Fail.IO, l.end(), l.said());
        assertTrue(l.said().lines().anyMatch(line -> line.startsWith("qat: ") && line.contains("lost")), l.said());
        Files.move(l.run.resolveSibling("elsewhere"), l.run);
        assertEquals(0, life("lost").end());
        assertAsWhole("lost");
    }
}
