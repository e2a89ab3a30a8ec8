package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.GgmlType;
import dev.qat.data.HfModelDir;
import dev.qat.method.Rule;
import dev.qat.model.Linear;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.ops.Snap;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import dev.qat.train.Step;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is trained for a target is what its file decodes to; what does not fit is refused with what does. */
class TargetTest {
    @TempDir
    Path dir;
    @AutoClose
    private final CpuBackend backend = new CpuBackend(1);

    private Tiny tiny(int width, int mlp) {
        return Tiny.of(dir.resolve("source"), backend, "llama", width, mlp, "");
    }

    /** The weight a linear's product reads: the master through its site.   (O · I) */
    private float[] seen(Linear l) {
        Tensor out = backend.memory().tensor("seen", l.weight.value().dims());
        try (Step step = new Step(backend, "site", false, t -> t.backend().copy(out, l.weightSite.through(t, l.weight.value())))) {
            step.run();
        }
        return backend.memory().floats(out);
    }

    @ParameterizedTest
    @ValueSource(strings = {"gguf:q4_0", "gguf:q4_1", "gguf:q8_0", "gguf:q2_0", "gguf:q2_k", "gptq:w4g128-sym", "gptq:w2g64", "gptq:w3g64", "gptq-v2:w2g64", "gptq-v2:w8g64",
        "awq:w4g128", "awq:w4g32-sym", "compressed-tensors:w4g128", "compressed-tensors:w3-sym", "compressed-tensors:w5g32",
        "compressed-tensors:w4g128-bf16", "compressed-tensors:w3g32-sym-bf16", "compressed-tensors:bf16", "hf"})
    void whatIsTrainedIsWhatTheFileDecodesTo(String target) {
        Tiny tiny = tiny(256, 512).trainedFor(target);
        Path file = dir.resolve("out" + (target.startsWith("gguf:") ? ".gguf" : ""));
        Report report = Exports.of(target, Exports.Options.DEFAULT).write(file, tiny.frozen());
        assertEquals(0, report.maxScaleMove(), "a step moved on the way into the file");
        assertEquals(0, report.maxOffsetMove(), "a minimum moved on the way into the file");
        assertEquals(List.of(), report.remarks());
        try (Frozen written = Exports.open(file)) {
            assertTrue(Proof.of(tiny.frozen(), written, report).weights() > 0);
            for (Linear l : tiny.model.linears()) {
                float[] got = new float[(int) l.weight.value().size()];
                written.read(l.name + ".weight", MemorySegment.ofArray(got));
                assertArrayEquals(seen(l), got, 0, target + " " + l.name);
            }
        }
    }

    @Test
    void targetsSetTheGrid() {
        Tiny tiny = tiny(256, 512);
        Linear l = tiny.model.blocks().getFirst().down;
        assertEquals(new Grid(4, 32, Grid.Offset.MIDDLE), Target.of("gguf:q4_0").rule().grid(l, 0, 0));
        assertEquals(new Grid(3, 64, Grid.Offset.POINT), Target.of("gguf:q4_0").rule().grid(l, 3, 64));
        assertEquals(new Grid(4, 128, Grid.Offset.MIDDLE), Target.of("gptq:w4g128-sym").rule().grid(l, 0, 0));
        assertEquals(new Grid(2, 64, Grid.Offset.POINT), Target.of("gptq-v2:w2g64").rule().grid(l, 2, 64));
        assertEquals(new Grid(3, 512, Grid.Offset.POINT), Target.of("compressed-tensors:w3").rule().grid(l, 0, 0));
        assertEquals(new Grid(2, 16, Grid.Offset.MINIMUM), Target.of("gguf:q2_k").rule().grid(l, 0, 0));
        assertEquals(new Grid(3, 32), Target.of("gptq-v2").rule().grid(l, 3, 32));
        assertEquals(new Grid(4, 64), Rule.NONE.grid(l, 0, 0));
        assertEquals(new Grid(5, 512), Rule.NONE.grid(l, 5, -1));
    }

    private void refused(String target, int bits, int group, Object... mentions) {
        Linear l = tiny(96, 96).model.blocks().getFirst().down;
        Failing.with(Fail.USAGE, () -> Target.of(target).rule().grid(l, bits, group), mentions);
    }

    @Test
    void whatDoesNotFitIsRefusedWithTheNearest() {
        Failing.with(Fail.USAGE, () -> Target.of("gptq:w4g128-bf16"), "gptq:w4g128-bf16", "only compressed-tensors");
        Failing.with(Fail.USAGE, () -> Target.of("compressed-tensors:w4g128bf16"), "w4g128");
        refused("gguf:q4_0", 5, 0, "bits = 5", "gguf:q4_0", "2 to 4 bits", "the nearest is bits: 4, group: 32");
        refused("gguf:q4_0", 4, 48, "group = 48", "multiple of 32", "the nearest is bits: 4, group: 64");
        refused("gptq-v2:w2g32", 3, 0, "bits = 3", "the nearest is bits: 2, group: 32");
        refused("gptq-v2:w2g32", 0, 48, "group = 48", "groups of 32", "the nearest is bits: 2, group: 32");
        refused("gptq-v2:w2g64", 0, 0, "group = 64 does not divide the 96 inputs", "gptq-v2:w2g64");
        refused("gguf:q2_k", 0, 0, "96 inputs", "blocks of 256", "gguf:q4_1");
        refused("gguf:tq2_0", 0, 0, "-1, 0 and 1", "ternary", "gguf:q2_0");
        Failing.with(Fail.USAGE, () -> Target.of("gptq:w5g64"), "2, 3, 4, 8", "the nearest is gptq:w4g64");
        Failing.with(Fail.USAGE, () -> Target.of("awq:w3g128"), "the nearest is awq:w4g128");
        Failing.with(Fail.USAGE, () -> Target.of("awq:g128"), "awq:g128", "w4g128");
        Failing.with(Fail.USAGE, () -> Target.of("gptq-v2:w4g0"), "g0");
        Failing.with(Fail.USAGE, () -> Target.of("gguf:q5_k"), "gguf:q4_0", "compressed-tensors");
        Failing.with(Fail.USAGE, () -> Target.of("hf:w4"), "hf:w4");
    }

    @Test
    void shapesAreRefusedBeforeTheWork() {
        Tiny tiny = Tiny.of(dir.resolve("odd"), backend, "llama", 48, 44, "").trainedFor("compressed-tensors:w4");
        try (HfModelDir source = HfModelDir.describe(tiny.dir)) {
            var codes = tiny.packed.values();
            Target.of("compressed-tensors:w4").check(codes, source, tiny.model.config);
            Failing.with(Fail.USAGE, () -> Target.of("gptq-v2:w4").check(codes, source, tiny.model.config), "44 x 48", "multiples of 8");
            Failing.with(Fail.USAGE, () -> Target.of("awq:w4").check(codes, source, tiny.model.config), "44 outputs");
            Failing.with(Fail.USAGE, () -> Target.of("gguf:q4_0").check(codes, source, tiny.model.config), "group = 48", "multiple of 32");
            Failing.with(Fail.USAGE, () -> Target.of("awq:w4").check(List.of(), source, tiny.model.config), "no stage", "rtn");
        }
    }

    @Test
    void whatStandsInTheForwardPassIsRefused() {
        Tiny tiny = tiny(64, 64).trainedFor("gptq:w4g64");
        try (HfModelDir source = HfModelDir.describe(tiny.dir)) {
            var scaled = tiny.model.config.online(new ModelConfig.Online(0, 0, 0, true));
            for (String target : List.of("gptq:w4g64", "gguf:q4_0")) Failing.with(Fail.USAGE, () -> Target.of(target).check(tiny.packed.values(), source, scaled), "scales", "dynamic");
            Target.of("hf").check(tiny.packed.values(), source, scaled);
        }
    }

    @Test
    void minimaGoWhereTheyWereTrainedFor() {
        Tiny tiny = tiny(256, 256).trainedFor("gguf:q2_k");
        for (String other : List.of("gguf:q4_1", "gguf:q4_0", "gptq-v2")) {
            Failing.with(Fail.USAGE, () -> Exports.of(other, Exports.Options.DEFAULT).write(dir.resolve("no"), tiny.frozen()), "minim");
        }
        Failing.with(Fail.USAGE, () -> Exports.of("gguf:q2_k", new Exports.Options(GgmlType.F16, true)).write(dir.resolve("no"), tiny.frozen()), "--requantize");
        Tiny plain = tiny(256, 256).quantize(Tiny.asymmetric(2, 64));
        Failing.with(Fail.USAGE, () -> Exports.of("gguf:q2_k", Exports.Options.DEFAULT).write(dir.resolve("no"), plain.frozen()), "target: gguf:q2_k");
    }

    /** Through the op: a gradient passes the rounding as if it were not there. */
    @ParameterizedTest
    @CsvSource({"gguf:q2_k, 0.018", "gptq-v2:w4g32, 2.5e-4", "compressed-tensors:w4g32-bf16, 2e-3"})
    void roundingIsStraightThrough(String name, float most) {
        Tensor x = backend.memory().tensor("x", 32), target = backend.memory().tensor("target", 32);
        float[] values = new float[32], grad;
        for (int i = 0; i < 32; i++) values[i] = 0.1f + 0.013f * i;
        backend.memory().set(x, values);
        x.wants = true;
        x.grad = backend.memory().tensor("dx", 32);
        Rule rule = Target.of(name).rule();
        try (Step step = new Step(backend, "snap", true, t -> {
            Ops.mse(t, rule.step(t, x), target);
            t.backward();
        })) {
            step.run();
        }
        Snap steps = Snap.steps(rule.half());
        backend.snap(target, x, rule.twoLevels() ? steps.twoLevels() : steps);
        grad = backend.memory().floats(x.grad);
        float[] stored = backend.memory().floats(target);
        int moved = 0;
        for (int i = 0; i < 32; i++) {
            assertEquals(2 * stored[i] / 32, grad[i], 1e-7);
            assertTrue(Math.abs(stored[i] - values[i]) <= most, "element " + i);
            if (Math.abs(stored[i] - values[i]) > most / 10) moved++;
        }
        assertTrue(moved > 5, "nothing is rounded: " + moved);
    }
}
