package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQat;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.watch.Watch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** End-to-end training of weights, steps and zero points goes on exactly where Block-AP left them, and gets further. */
class E2eQatTest {
    @TempDir
    static Path temp;
    static Backend backend;
    static Path model;

    private final BlockAp blockAp = blockAp(32);

    @BeforeAll
    static void open() {
        backend = new CpuBackend(2);
        model = TinyModels.write(temp.resolve("model"), backend, 7);
    }

    @AfterAll
    static void close() {
        backend.close();
    }

    private static BlockAp blockAp(int group) {
        return new BlockAp(2, group, 2, 4, 3e-3, 3e-3, 0.05, Part.ALL, true);
    }

    private static Runner.Result run(String name, Stage... stages) {
        Recipe r = new Recipe(name, new Recipe.Source(model, Recipe.Init.LOAD), "cpu", Precision.FP32, false, 2, 3, temp.resolve("runs"),
                new Recipe.Data(List.of(), List.of(), 0, 32, 0, 64, 1, 0, 0), new Recipe.Eval(List.of(), 0, 32, 16, 8), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", List.of(stages));
        return Runner.run(r, "name: " + name + "\n", Map.of("qat", "test"), backend, Watch.NOBODY);
    }

    private static E2eQat training(double rate) {
        return new E2eQat(4, 8, rate, rate, 1, 0, 0.05, EndToEnd.Loss.DISTILL, 0, Part.ALL, true, false);
    }

    private static byte[] codes(Runner.Result r) throws Exception {
        return Files.readAllBytes(r.directory().resolve("model/packed.safetensors"));
    }

    @Test
    void atRateZeroItChangesNothing() throws Exception {
        Runner.Result before = run("before", blockAp), still = run("still", blockAp, training(0));
        assertArrayEquals(codes(before), codes(still));
        assertEquals(still.rows().get(1).kl(), still.rows().get(2).kl(), 1e-6, "the norm gains that Block-AP trained are kept");
    }

    @Test
    void rowsThatShareNoWidthAreOneGroupEach() throws Exception {
        assertArrayEquals(codes(run("rows", blockAp(-1))), codes(run("rows still", blockAp(-1), training(0))));
    }

    @Test
    void itBringsTheModelNearerToFullPrecisionAndMovesCodes() throws Exception {
        Runner.Result r = run("trained", blockAp, training(3e-3));
        assertTrue(r.rows().get(2).kl() < 0.9 * r.rows().get(1).kl(), r.rows().toString());
        assertFalse(Arrays.equals(codes(run("untrained", blockAp)), codes(r)));
    }

    @Test
    void itNeedsCodesToStartFrom() {
        Fail f = assertThrows(Fail.class, () -> run("nothing", training(1e-3)));
        assertTrue(f.getMessage().contains("put rtn or block-ap before it"), f.getMessage());
    }
}
