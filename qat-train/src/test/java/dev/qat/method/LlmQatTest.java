package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cli.RecipeReader;
import dev.qat.cli.Variants;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.HfModelDir;
import dev.qat.method.LlmQat.Distance;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Stage;
import dev.qat.train.TinyModels;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

final class LlmQatTest {
    @TempDir
    static Path temp;
    static Backend backend;
    static Path model;

    @BeforeAll
    static void open() {
        backend = new CpuBackend(2);
        model = TinyModels.write(temp.resolve("model"), backend, 7);
    }

    @AfterAll
    static void close() {
        backend.close();
    }

    private static String training(String bits, Distance loss, boolean recompute) {
        return "{method: llm-qat, bits: %s, epochs: 4, batch: 8, rate: 1e-3, loss: %s, recompute: %s}".formatted(bits, loss.name().toLowerCase(Locale.ROOT), recompute);
    }

    private static String rounding(String bits, int group, boolean asymmetric) {
        return "{method: min-max, bits: %s, group: %d, asymmetric: %s}".formatted(bits, group, asymmetric);
    }

    private static Runner.Result run(String name, String... stages) {
        try {
            Path yaml = Files.writeString(temp.resolve(name + ".yaml"), """
                    name: %s
                    model: {path: '%s'}
                    output: '%s'
                    seed: 3
                    data: {length: 32, samples: 64}
                    eval: {length: 32, windows: 16}
                    stages: [%s]
                    """.formatted(name, model, temp.resolve("runs"), String.join(", ", stages)));
            Recipe r = RecipeReader.read(yaml, List.of(), Recipe.class, new Variants(Stage.class, "method", Methods.all()));
            return Runner.run(r, "name: " + name + "\n", Map.of("qat", "test"), backend, Watch.NOBODY);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void trainingBringsTheModelNearerToFullPrecision() {
        List<Row> rows = run("kl", rounding("3-8-4", -1, false), training("3-8-4", Distance.KL, false)).rows();
        assertEquals(List.of("fp", "min-max", "llm-qat"), rows.stream().map(Row::name).toList());
        assertTrue(rows.get(1).kl() > 0.02, "3 bits must hurt this model: " + rows);
        assertTrue(rows.get(2).kl() < 0.7 * rows.get(1).kl(), rows.toString());
        assertEquals(3 + 19.0 / 64, rows.get(2).bitsPerWeight(), 0.2);
    }

    @ParameterizedTest
    @EnumSource(value = Distance.class, names = {"CAKLD", "JS"})
    void soDoOtherDivergences(Distance loss) {
        List<Row> rows = run(loss.name(), rounding("3-8-4", -1, false), training("3-8-4", loss, false)).rows();
        assertTrue(rows.get(2).kl() < 0.8 * rows.get(1).kl(), rows.toString());
    }

    @Test
    void recomputedActivationsGiveTheSameModel() {
        assertEquals(run("kept", training("4-8-4", Distance.KL, false)).rows().getLast().kl(), run("recomputed", training("4-8-4", Distance.KL, true)).rows().getLast().kl(), 1e-6);
    }

    /** Every part of W-A-KV counts: the more of it is rounded, the farther from full precision. */
    @Test
    void eachOfTheThreeIsQuantized() {
        double none = kl("32-32-32"), inputs = kl("32-4-32"), cache = kl("32-32-4"), weights = kl("4-32-32"), all = kl("4-4-4"), fine = kl("8-16-16");
        assertEquals(0, none, 1e-6);
        for (double one : new double[] {inputs, cache, weights}) assertTrue(one > 1e-4 && one < all, "%s %s %s of %s".formatted(inputs, cache, weights, all));
        assertTrue(fine < 0.1 * weights, "8-16-16: " + fine);
    }

    private static double kl(String bits) {
        return run("kl-" + bits, rounding(bits, -1, false)).rows().getLast().kl();
    }

    @Test
    void aTokensOffsetHelps() {
        assertTrue(run("offset", rounding("32-4-4", -1, true)).rows().getLast().kl() < run("none", rounding("32-4-4", -1, false)).rows().getLast().kl());
    }

    @Test
    void aScaleForEveryHeadHelps() {
        assertTrue(run("heads", rounding("32-32-3", -1, false).replace("}", ", heads: true}")).rows().getLast().kl() < run("tokens", rounding("32-32-3", -1, false)).rows().getLast().kl());
    }

    @Test
    void smallerGroupsHelp() {
        assertTrue(run("groups", rounding("3-32-32", 16, false)).rows().getLast().kl() < run("rows", rounding("3-32-32", -1, false)).rows().getLast().kl());
    }

    /** Four levels about the mean, and two: trained from there, and written as codes above a minimum. */
    @ParameterizedTest
    @ValueSource(strings = {"2-8-8", "1-8-8"})
    void lessThanThreeBitsHaveLevelsOfTheirOwn(String bits) {
        Runner.Result result = run("levels-" + bits, rounding(bits, -1, false), training(bits, Distance.KL, false));
        assertTrue(result.rows().get(2).kl() < 0.7 * result.rows().get(1).kl(), result.rows().toString());
        float[] written = read(result.directory().resolve("model"), "model.layers.1.mlp.down_proj.weight");
        assertEquals(1 << Widths.of(bits).weights(), new java.util.TreeSet<>(java.util.stream.IntStream.range(0, 128).mapToObj(i -> written[i]).toList()).size());
    }

    /** A rate at which training does harm: without a guard it does, with one the model stays as it was, bit for bit; what helps is kept. */
    @Test
    void aGuardTakesBackWhatDoesHarm() {
        String wild = "{method: llm-qat, bits: 8-8-8, epochs: 1, batch: 8, rate: 5e-2, guard: %d}", good = training("3-8-4", Distance.KL, false).replace("}", ", guard: 8}");
        Runner.Result harmed = run("harmed", rounding("8-8-8", -1, false), wild.formatted(0)), guarded = run("guarded", rounding("8-8-8", -1, false), wild.formatted(8));
        assertTrue(harmed.rows().get(2).kl() > 10 * harmed.rows().get(1).kl(), harmed.rows().toString());
        assertEquals(guarded.rows().get(1).kl(), guarded.rows().get(2).kl());
        assertTrue(guarded.rows().get(2).notes().get("guard_end") > guarded.rows().get(2).notes().get("guard_start"));
        List<Row> helped = run("helped", rounding("3-8-4", -1, false), good).rows();
        assertTrue(helped.get(2).kl() < 0.7 * helped.get(1).kl(), helped.toString());
    }

    /** What is written is what was judged: every weight is q / (s + 1e-6) with s from its own row, to the last bit but one. */
    @ParameterizedTest
    @ValueSource(strings = {"4-8-4", "8-8-8", "3-32-32"})
    void theWrittenWeightsAreTheFormulas(String bits) {
        Path dir = run("written-" + bits, rounding(bits, -1, false)).directory().resolve("model");
        String name = "model.layers.1.mlp.down_proj.weight";
        float[] master = read(model, name), written = read(dir, name);
        int cols = 128, top = (1 << Widths.of(bits).weights() - 1) - 1;
        for (int row = 0; row < 64; row++) {
            float most = 0;
            for (int i = 0; i < cols; i++) most = Math.max(most, Math.abs(master[row * cols + i]));
            float s = top / (most + 1e-6f);
            for (int i = row * cols; i < (row + 1) * cols; i++) {
                float expected = (float) Math.rint(master[i] * s) / (s + 1e-6f);
                assertEquals(expected, written[i], Math.ulp(expected));
            }
        }
        assertArrayEquals(read(model, "model.embed_tokens.weight"), read(dir, "model.embed_tokens.weight"));
    }

    private static float[] read(Path dir, String name) {
        try (HfModelDir d = HfModelDir.open(dir); Arena arena = Arena.ofConfined()) {
            var floats = arena.allocate(4L * 64 * 128, 8);
            floats = name.contains("embed") ? floats.asSlice(0, 4L * 64 * 64) : floats;
            d.read(name, floats);
            return floats.toArray(ValueLayout.JAVA_FLOAT);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"4-8", "4-8-4-4", "9-8-8", "0-8-8", "4-1-8", "4-8-17", "four", "4--8", ""})
    void whatIsNoTripleIsRefused(String bits) {
        Fail e = assertThrows(Fail.class, () -> new MinMaxRounding(bits, -1, false, false));
        assertEquals(Fail.USAGE, e.code());
        assertTrue(e.getMessage().contains("bits") && e.getMessage().contains("4-8-4"), e.getMessage());
    }
}
