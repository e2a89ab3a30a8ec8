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
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Part;
import dev.qat.train.Step;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Learnable weight clipping: the worked row, the gradient of both ends, what the stage gains. */
final class LwcTest {
    @TempDir
    Path temp;

    private static final float[] W = {1.2f, -0.3f, 0.5f, -0.8f}, TARGET = {1.5f, -0.1f, 0.4f, -1.1f};

    /** The row (1.2, −0.3, 0.5, −0.8) at 4 bits, and the slopes of the mean (ŵ − target)² by u and v: of the formulas, the gradient through s and l. */
    @Test
    @SuppressWarnings("try")
    void workedRowAndItsGradient() {
        try (Backend be = new CpuBackend(1)) {
            Linear any = Tiny.model(be, Tiny.LLAMA, 5).blocks().getFirst().q;
            Tensor w = be.memory().tensor("w", 1, 4), target = be.memory().tensor("target", 1, 4), rounded = be.memory().tensor("rounded", 1, 4);
            be.memory().set(w, W);
            be.memory().set(target, TARGET);
            List<Param> p = Slab.of(be.memory(), "clip", s -> List.of(s.param("u", Param.Kind.TRANSFORM, 1), s.param("v", Param.Kind.TRANSFORM, 1)));
            Lwc.Clip clip = new Lwc.Clip(any, new Grid(4, 4, Grid.Offset.MINIMUM), Rule.NONE, be.memory().tensor("high", 1, 1), be.memory().tensor("low", 1, 1), p.get(0), p.get(1));
            clip.start(be, w, false);
            try (AdamW adam = new AdamW(be, List.of(new AdamW.Group(p, 0, 0)), AdamW.Config.DEFAULTS);
                 Step step = new Step(be, "step", true, t -> {
                     Tensor q = clip.round(t, w);
                     t.backend().copy(rounded, q);
                     Ops.mse(t, q, target);
                     t.backward();
                 })) {
                step.run();
                float[] y = be.memory().floats(rounded);
                assertArrayEquals(new float[] {1.1784165f, -0.2618703f, 0.5237407f, -0.7856110f}, y, 1e-6f);
                double h = 1.1784165, l = -0.7856110, s = (h - l) / 15, ds = 0;
                int[] codes = {15, 4, 10, 0};
                for (int i = 0; i < 4; i++) ds += (y[i] - TARGET[i]) / 2 * (codes[i] - (W[i] - l) / s);
                assertEquals(ds * h / 15, be.memory().floats(p.get(0).value().grad)[0], 1e-5);
                assertEquals(-ds * l / 15, be.memory().floats(p.get(1).value().grad)[0], 1e-5);
            }
        }
    }

    @Test
    void clippingBeatsRoundingToNearest() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            double rtn = Loud.run(temp, be, model, List.of(new Rtn(3, -1))).getLast().kl();
            double lwc = Loud.run(temp, be, model, List.of(new Lwc(3, -1, 10, 8, 1e-2, Part.ALL, false))).getLast().kl();
            System.out.printf("lwc: KL %.4f, to nearest %.4f%n", lwc, rtn);
            assertTrue(lwc < rtn, "KL " + lwc + ", to nearest " + rtn);
        }
    }
}
