package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Part;
import dev.qat.train.Step;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** FlexRound's worked row, and what the stage gains. */
final class FlexRoundTest {
    @TempDir
    Path temp;

    /** w = (0.34, −0.26, 0.9), Δ = 0.2, divisors (1, 1.2, 1) and 1.1 of the row, dL/dŵ = 1. */
    @Test
    @SuppressWarnings("try")
    void workedExample() {
        try (Backend be = new CpuBackend(1)) {
            Linear l = Tiny.model(be, Tiny.LLAMA, 5).blocks().getFirst().q;
            Tensor w = be.memory().tensor("w", 1, 3), x = be.memory().tensor("x", 1, 3), target = be.memory().tensor("target", 1, 1), rounded = be.memory().tensor("rounded", 1, 3);
            List<Param> p = Slab.of(be.memory(), "parts", s -> List.of(s.param("each", Kind.TRANSFORM, 3), s.param("row", Kind.TRANSFORM, 1), s.param("step", Kind.SCALE, 1, 1), s.param("zero", Kind.ZERO, 1, 1)));
            be.memory().set(w, 0.34f, -0.26f, 0.9f);
            be.memory().set(x, 1f, 1f, 1f);
            be.memory().set(p.get(0).value(), 0f, (float) Math.log(1.2), 0f);
            be.memory().set(p.get(1).value(), (float) Math.log(1.1));
            be.memory().set(p.get(2).value(), 0.2f);
            be.memory().set(p.get(3).value(), 8f);
            // mean (y − target)² of one element has the slope 1 where y is half above the target: y = 0.4 − 0.2 + 0.8
            be.memory().set(target, 0.5f);
            FlexRound.Divisors d = new FlexRound.Divisors(l, p.get(0), p.get(1));
            try (AdamW adam = new AdamW(be, List.of(new AdamW.Group(p.subList(0, 3), 0, 0)), AdamW.Config.DEFAULTS);
                 Step step = new Step(be, "step", true, t -> {
                     Tensor q = Ops.fakeQuant(t, d.divide(t, w), p.get(2).value(), p.get(3).value(), new Grid(4, 3));
                     t.backend().copy(rounded, q);
                     Ops.mse(t, Ops.linear(t, x, q, null, null), target);
                     t.backward();
                 })) {
                step.run();
                assertArrayEquals(new float[] {0.4f, -0.2f, 0.8f}, be.memory().floats(rounded), 1e-6f);
                assertArrayEquals(new float[] {-0.309091f, 0.196970f, -0.818182f}, be.memory().floats(p.get(0).value().grad), 1e-5f);
                assertEquals(-0.930303f, be.memory().floats(p.get(1).value().grad)[0], 1e-5f);
                assertEquals(0.0696970f, 0.2f * be.memory().floats(p.get(2).value().grad)[0], 1e-5f, "of the step's logarithm");
            }
        }
    }

    @Test
    void learnedRoundingBeatsRoundingToNearest() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            double rtn = Loud.run(temp, be, model, List.of(new Rtn(3, 12))).getLast().kl();
            double flex = Loud.run(temp, be, model, List.of(new FlexRound(3, 12, 80, 8, 1e-2, Part.ALL, true))).getLast().kl();
            System.out.printf("flexround: KL %.4f, to nearest %.4f%n", flex, rtn);
            assertTrue(flex < 0.6 * rtn, "KL " + flex + ", to nearest " + rtn);
        }
    }
}
