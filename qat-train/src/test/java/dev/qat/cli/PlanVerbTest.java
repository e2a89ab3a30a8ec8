package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** {@code qat plan}: the verdict and what it proposes, beside what a run then takes. */
final class PlanVerbTest {
    private static final Path ROOT = Path.of(System.getProperty("qat.root", ".")).toAbsolutePath().normalize();

    @TempDir
    Path temp;
    @RegisterExtension
    final Console console = new Console();
    private TinyDir dir;

    @BeforeEach
    void prepare() throws IOException {
        dir = TinyDir.in(temp);
    }

    /** Plans and ends with this code; the JSON that was printed. */
    private JsonNode plan(int code, String... words) throws IOException {
        console.out.reset();
        int got = Main.run(join(new String[] {"plan", dir.recipe(), "--json"}, words));
        assertEquals(code, got, console.err.toString(UTF_8));
        return new ObjectMapper().readTree(console.out.toString(UTF_8));
    }

    private static long need(JsonNode plan, String what) {
        for (JsonNode n : plan.get("needs")) if (n.get("what").asText().equals(what)) return n.get("bytes").asLong();
        throw new AssertionError("no " + what + " in " + plan.get("needs"));
    }

    @Test
    void whatFitsSaysSo() throws IOException {
        JsonNode p = plan(0, "--memory", "1GB");
        assertTrue(p.get("fits").asBoolean());
        assertEquals("fits", p.get("verdict").asText());
        assertEquals(0, p.get("change").size());
        assertTrue(p.get("hours").get("H100").get("e2e-qp").asDouble() > 0);
    }

    /** The keys it names are tried: planned with them the same recipe fits, and without any one of them it does not. */
    @Test
    void theKeysItNamesAreEnoughAndAllNeeded() throws IOException {
        String[] words = {"backend=cuda", "precision=fp32", "model.path=" + ROOT.resolve("examples/models/shakespeare-3m"), "data.windows=64", "data.length=256", "eval.batch=1",
            "stages.rtn.group=64", "stages.block-ap.group=64", "stages.e2e-qp.batch=32"};
        long needed = need(plan(0, join(words, "--memory", "80GB")), "device memory");
        for (int share : new int[] {80, 35}) {
            String memory = needed * share / 95 / 1000 + "KB";
            JsonNode p = plan(Fail.DEVICE, join(words, "--memory", memory));
            assertTrue(p.get("verdict").asText().startsWith("does not fit, change these keys: "), p.get("verdict").asText());
            List<String> keys = new ArrayList<>();
            p.get("change").forEach(k -> keys.add(k.asText()));
            assertEquals(share == 80 ? 1 : 2, Math.min(2, keys.size()), keys.toString());
            console.shout("PlanVerbTest: of " + needed + " bytes " + share + "%: " + keys);
            String[] with = join(words, keys.toArray(String[]::new));
            plan(0, join(with, "--memory", memory));
            for (String left : keys) {
                List<String> others = new ArrayList<>(List.of(with));
                others.remove(left);
                plan(Fail.DEVICE, join(others.toArray(String[]::new), "--memory", memory));
            }
        }
    }

    private static String[] join(String[] words, String... more) {
        return Stream.concat(Stream.of(words), Stream.of(more)).toArray(String[]::new);
    }

    @Test
    void whatCannotFitSaysHowNearItComes() throws IOException {
        JsonNode p = plan(Fail.DEVICE, "backend=cuda", "--memory", "1MB");
        assertTrue(p.get("verdict").asText().startsWith("does not fit"), p.get("verdict").asText());
        assertFalse(p.get("verdict").asText().contains("change these keys"));
    }

    /** What a run leaves behind is what the plan said of the disk, within the heads of the files. */
    @Test
    void filesTakeWhatThePlanSays() throws IOException {
        JsonNode disk = plan(0).get("disk");
        assertEquals(0, Main.run("train", dir.recipe()));
        Path model = temp.resolve("runs/tiny/model");
        long slack = 16_000; // names and shapes
        long written = Files.size(model.resolve("model.safetensors")), codes = Files.size(model.resolve("packed.safetensors"));
        assertTrue(written >= disk.get("model").asLong() && written < disk.get("model").asLong() + slack, written + " of " + disk);
        assertTrue(codes >= disk.get("codes").asLong() && codes < disk.get("codes").asLong() + slack, codes + " of " + disk);
    }

    /** Checkpoints at every step never take more than the plan said they might. */
    @Test
    void checkpointsTakeNoMoreThanThePlanSays() throws Exception {
        long most = plan(0).get("disk").get("checkpoints, at most").asLong(), seen = 0;
        Path folder = temp.resolve("runs/tiny/checkpoints");
        Thread run = new Thread(() -> Main.run("train", dir.recipe(), "checkpoint.steps=1", "stages.block-ap.epochs=8"));
        run.start();
        while (run.isAlive()) {
            long now = 0;
            try (Stream<Path> files = Files.list(folder)) {
                for (Path f : files.filter(f -> f.toString().endsWith(".safetensors")).toList()) now += f.toFile().length();
            } catch (IOException notThere) {
                Thread.sleep(1);
            }
            seen = Math.max(seen, now);
        }
        assertTrue(seen > most / 4 && seen < most + 64_000, seen + " bytes seen, at most " + most + " planned");
    }

    /** On the CPU the hours of a probed plan are those of the run within a small factor: one block of 64 channels, mostly overhead. */
    @Test
    void probedHoursAreNearTheRuns() throws IOException {
        String[] words = {"model.path=" + ROOT.resolve("examples/models/shakespeare-3m"), "data.length=128", "eval.length=32", "data.windows=8", "stages.block-ap.group=64", "stages.rtn.group=64", "stages.block-ap.batch=4", "stages.block-ap.epochs=4"};
        Files.writeString(temp.resolve("text.txt"), "A text that says little, and says it again and again. ".repeat(200));
        JsonNode hours = plan(0, join(words, "--probe")).get("hours").get("probed");
        assertEquals(0, Main.run(Stream.concat(Stream.of("train", dir.recipe()), Stream.of(words)).toArray(String[]::new)), console.err.toString(UTF_8));
        double probed = hours.get("block-ap").asDouble() * 3600, ran = 0;
        for (String line : Files.readAllLines(temp.resolve("runs/tiny/metrics.jsonl"))) {
            JsonNode n = new ObjectMapper().readTree(line);
            if (n.get("stage").asText().equals("block-ap") && n.get("step").asInt() > 1) ran += n.get("seconds").asDouble() * 8 / 6; // the first steps are compiled while they run
        }
        console.shout("PlanVerbTest: %.2f s of block-ap probed, %.2f s run".formatted(probed, ran));
        assertTrue(probed > ran / 4 && probed < 4 * ran, probed + " s probed, " + ran + " s run");
    }

    @Test
    void memoryIsReadWithItsUnit() {
        assertEquals(80_000_000_000L, PlanVerb.bytes("80GB"));
        assertEquals(24L << 30, PlanVerb.bytes("24GiB"));
        assertEquals(Fail.USAGE, assertThrows(Fail.class, () -> PlanVerb.bytes("80")).code());
    }
}
