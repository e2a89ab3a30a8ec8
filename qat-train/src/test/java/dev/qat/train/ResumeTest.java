package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQp;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.watch.Watch;
import dev.qat.watch.Witness;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A run that is broken off again and again ends in the same bytes as one that was left alone. */
final class ResumeTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path temp;

    private final List<String> said = new ArrayList<>();

    /** The process dies here; no code of the run may count on it. */
    private static final class Killed extends Error {
        private static final long serialVersionUID = 1;
    }

    /** Dies at the n-th sign of life, and keeps what was said. */
    private Watch mortal(int signs) {
        int[] left = {signs};
        return new Witness((title, done) -> {
            if (--left[0] == 0) throw new Killed();
        }, said);
    }

    /** How many parts a batch of the end-to-end stage is computed in. */
    private int accumulate = 1;

    /** Moments on the host, batches in parts, what blocks start again from on the host. */
    private boolean thrifty;

    private Recipe recipe(String output, Recipe.Checkpoint checkpoint, int epochs) {
        return new Recipe("tiny", new Recipe.Source(temp.resolve("model"), Recipe.Init.LOAD), "cpu", Precision.FP32, false, 2, 3, temp.resolve(output),
                new Recipe.Data(List.of(), List.of(), 0, 16, 0, 80, 1, 0, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS, checkpoint, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "",
                List.of(new Rtn(2, 32), new BlockAp(2, 32, 2, 8, 3e-3, 3e-3, 0.05, Part.ALL, true),
                        new E2eQp(epochs, 8, 1e-3, 0.3, 0, EndToEnd.Loss.DISTILL, 0, Part.ALL, true, thrifty, thrifty, thrifty ? 2 : 1, thrifty)));
    }

    private static final Recipe.Checkpoint OFTEN = new Recipe.Checkpoint(0, 3, 2, Recipe.Resume.AUTO);

    private Runner.Result run(String output, Recipe.Checkpoint checkpoint, Supplier<Backend> backend, Watch watch) {
        try (Backend b = backend.get()) {
            if (!Files.exists(temp.resolve("model"))) TinyModels.write(temp.resolve("model"), b, 7);
            return Runner.run(recipe(output, checkpoint, 2), "seed: 3\n", Map.of("qat", "test"), b, watch);
        }
    }

    /** Runs until the end, dying at random moments; returns how often it died. */
    private int mortally(String output, Supplier<Backend> backend, Random random, int most) {
        for (int deaths = 0; ; deaths++) {
            assertTrue(deaths < 200, "the run makes no headway");
            try {
                run(output, OFTEN, backend, mortal(1 + random.nextInt(most)));
                return deaths;
            } catch (Killed e) {
                // and once more
            }
        }
    }

    private void assertSame(String expected, String got) throws IOException {
        Path a = temp.resolve(expected).resolve("tiny"), b = temp.resolve(got).resolve("tiny");
        for (String file : List.of("model/packed.safetensors", "model/model.safetensors")) {
            assertArrayEquals(Files.readAllBytes(a.resolve(file)), Files.readAllBytes(b.resolve(file)), file);
        }
        assertEquals(metrics(a), metrics(b));
        JsonNode x = timeless(a.resolve("result.json")), y = timeless(b.resolve("result.json"));
        assertEquals(x, y);
        assertFalse(Files.exists(b.resolve("checkpoints")), "a finished run needs no checkpoints");
    }

    private static JsonNode timeless(Path result) throws IOException {
        ObjectNode r = (ObjectNode) JSON.readTree(result.toFile());
        r.remove("seconds");
        for (JsonNode s : r.get("stages")) ((ObjectNode) s).remove("seconds");
        return r;
    }

    private static List<JsonNode> metrics(Path run) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(run.resolve("metrics.jsonl"))) lines.add(((ObjectNode) JSON.readTree(line)).without("seconds"));
        return lines;
    }

    @Test
    void diesAgainAndAgainOnTheCpu() throws IOException {
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        run("whole", Recipe.Checkpoint.DEFAULTS, cpu, Watch.NOBODY);
        int deaths = 0;
        for (int i = 0; i < 6; i++) {
            deaths += mortally("cpu" + i, cpu, new Random(i), 10 + 10 * i);
            assertSame("whole", "cpu" + i);
        }
        assertTrue(deaths > 6, "only " + deaths + " deaths");
        System.out.println("ResumeTest: " + deaths + " deaths in 6 runs on the CPU");
    }

    @Test
    void diesAgainAndAgainOnCuda() throws IOException {
        Supplier<Backend> cuda = () -> new CudaBackend(StandIn.open(), Precision.FP32);
        run("whole", Recipe.Checkpoint.DEFAULTS, cuda, Watch.NOBODY);
        int deaths = mortally("cuda", cuda, new Random(5), 60);
        assertTrue(deaths > 0, "only " + deaths + " deaths");
        assertSame("whole", "cuda");
    }

    @Test
    void diesAgainAndAgainInParts() throws IOException {
        accumulate = 4;
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        run("whole", Recipe.Checkpoint.DEFAULTS, cpu, Watch.NOBODY);
        assertTrue(mortally("cpu", cpu, new Random(7), 40) > 0);
        assertSame("whole", "cpu");
    }

    @Test
    void diesAgainAndAgainWithMomentsOnTheHost() throws IOException {
        thrifty = true;
        Supplier<Backend> cuda = () -> new CudaBackend(StandIn.open(), Precision.FP32), cpu = () -> new CpuBackend(1);
        for (Supplier<Backend> backend : List.of(cpu, cuda)) {
            String whole = "whole" + (backend == cuda), killed = "killed" + (backend == cuda);
            run(whole, Recipe.Checkpoint.DEFAULTS, backend, Watch.NOBODY);
            assertTrue(mortally(killed, backend, new Random(7), 60) > 0);
            assertSame(whole, killed);
        }
    }

    /** Dies when a few checkpoints of the end-to-end stage stand. */
    private Path interrupted(String output) {
        assertThrows(Killed.class, () -> run(output, OFTEN, () -> new CpuBackend(1), mortal(2 + 2 * 20 + 17)));
        return temp.resolve(output).resolve("tiny/checkpoints");
    }

    private static List<Path> manifests(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(f -> f.toString().matches(".*\\d{8}\\.json")).sorted().toList();
        }
    }

    @Test
    void aDamagedFileIsToldOfAndTheCheckpointBeforeIsUsed() throws IOException {
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        run("whole", Recipe.Checkpoint.DEFAULTS, cpu, Watch.NOBODY);
        Random random = new Random(1);
        int kind = 0;
        for (String what : List.of("truncated", "flipped", "missing", "truncated manifest", "flipped manifest")) {
            String output = "damaged" + kind++;
            Path folder = interrupted(output);
            List<Path> manifests = manifests(folder);
            assertEquals(2, manifests.size(), "two are kept");
            JsonNode newest = JSON.readTree(manifests.getLast().toFile()).get("checkpoint");
            Path victim = what.contains("manifest") ? manifests.getLast() : folder.resolve(newest.get("place").get("file").get("name").asText());
            byte[] bytes = Files.readAllBytes(victim);
            if (what.equals("missing")) Files.delete(victim);
            else if (what.startsWith("truncated")) Files.write(victim, java.util.Arrays.copyOf(bytes, bytes.length / 2));
            else {
                // in a manifest some bits lie between the tokens; one in a digit counts
                int at = what.contains("manifest") ? new String(bytes, java.nio.charset.StandardCharsets.ISO_8859_1).indexOf("\"step\" : ") + 9 : random.nextInt(bytes.length);
                bytes[at] ^= 1;
                Files.write(victim, bytes);
            }
            said.clear();
            run(output, OFTEN, cpu, mortal(-1));
            assertTrue(said.stream().anyMatch(l -> l.startsWith("CHECKPOINT DAMAGED") && l.contains(victim.getFileName().toString())), what + ": " + said);
            assertTrue(said.stream().anyMatch(l -> l.contains("going on from the checkpoint before it")), what + ": " + said);
            assertSame("whole", output);
        }
    }

    @Test
    void withoutAWholeCheckpointTheRunIsRefused() throws IOException {
        Path folder = interrupted("gone");
        for (Path m : manifests(folder)) Files.writeString(m, "{}");
        Fail e = assertThrows(Fail.class, () -> run("gone", OFTEN, () -> new CpuBackend(1), Watch.NOBODY));
        assertEquals(Fail.DATA, e.code());
        assertTrue(e.getMessage().contains("checkpoint.resume=never"), e.getMessage());
    }

    @Test
    void anotherRecipeModelOrCodeIsRefusedWithTheDifference() throws IOException {
        Path folder = interrupted("other");
        try (Backend b = new CpuBackend(1)) {
            Fail e = assertThrows(Fail.class, () -> Runner.run(recipe("other", OFTEN, 2), "seed: 4\n", Map.of("qat", "test"), b, Watch.NOBODY));
            assertEquals(Fail.USAGE, e.code());
            assertTrue(e.getMessage().contains("seed: 3 then, 4 now"), e.getMessage());
            Fail code = assertThrows(Fail.class, () -> Runner.run(recipe("other", OFTEN, 2), "seed: 3\n", Map.of("qat", "newer"), b, Watch.NOBODY));
            assertTrue(code.getMessage().contains("qat: test "), code.getMessage());
            TinyModels.write(temp.resolve("model2"), b, 8);
            Files.copy(temp.resolve("model2/model.safetensors"), temp.resolve("model/model.safetensors"), java.nio.file.StandardCopyOption.REPLACE_EXISTING);
            Fail model = assertThrows(Fail.class, () -> Runner.run(recipe("other", OFTEN, 2), "seed: 3\n", Map.of("qat", "test"), b, Watch.NOBODY));
            assertTrue(model.getMessage().contains("model: "), model.getMessage());
        }
        assertEquals(2, manifests(folder).size(), "refusing changes nothing");
    }

    @Test
    void aFinishedRunSaysSoAndStartsOverOnlyWhenAsked() throws IOException {
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        Runner.Result first = run("done", OFTEN, cpu, Watch.NOBODY);
        Runner.Result again = run("done", OFTEN, cpu, mortal(1));
        assertTrue(again.old());
        assertEquals(first.rows(), again.rows());
        assertTrue(said.getLast().contains("finished"), said.toString());
        Recipe.Checkpoint never = new Recipe.Checkpoint(0, 3, 2, Recipe.Resume.NEVER), must = new Recipe.Checkpoint(0, 3, 2, Recipe.Resume.MUST);
        assertFalse(run("done", never, cpu, Watch.NOBODY).old());
        Fail e = assertThrows(Fail.class, () -> run("fresh", must, cpu, Watch.NOBODY));
        assertTrue(e.getMessage().contains("no checkpoint"), e.getMessage());
    }

    @Test
    void aStopBetweenTwoStepsEndsWithACheckpointOfThatStep() throws IOException {
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        run("whole", Recipe.Checkpoint.DEFAULTS, cpu, Watch.NOBODY);
        for (int at : List.of(1, 2, 9, 22, 23, 50)) {
            Stop stop = new Stop();
            int[] signs = {0};
            Watch asks = new Witness((title, done) -> {
                if (++signs[0] == at) stop.ask("SIGTERM");
            });
            try (Backend b = cpu.get()) {
                Fail e = assertThrows(Fail.class, () -> Runner.run(recipe("stop" + at, Recipe.Checkpoint.DEFAULTS, 2), "seed: 3\n", Map.of("qat", "test"), b, asks, stop));
                assertEquals(Fail.AGAIN, e.code(), e.getMessage());
            }
            run("stop" + at, Recipe.Checkpoint.DEFAULTS, cpu, Watch.NOBODY);
            assertSame("whole", "stop" + at);
        }
    }

    @Test
    @SuppressWarnings("try")
    void twoProcessesDoNotShareADirectory() {
        Recipe r = recipe("shared", OFTEN, 2);
        try (RunFiles mine = RunFiles.open(r, Watch.NOBODY)) {
            Fail e = assertThrows(Fail.class, () -> run("shared", OFTEN, () -> new CpuBackend(1), Watch.NOBODY));
            assertTrue(e.getMessage().contains("another qat"), e.getMessage());
        }
    }
}
