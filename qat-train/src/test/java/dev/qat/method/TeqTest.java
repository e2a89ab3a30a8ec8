package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.Probe;
import dev.qat.model.Slab;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.ops.Channels;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.ops.Philox;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Part;
import dev.qat.train.Step;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** TEQ's worked 2×2 case, the pairs of scales that leave a model as it is, and the whole stage. */
final class TeqTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};

    @TempDir
    Path temp;

    /** @param output y  @param error ‖y − y_fp‖²  @param slope dL/ds of L = half of it */
    private record Worked(float[] output, double error, double[] slope) {}

    @SuppressWarnings("try")
    private static Worked worked(double[] s, boolean quantized, boolean range) {
        try (Backend be = new ReferenceBackend()) {
            Tensor x = be.memory().tensor("x", 2, 2), w = be.memory().tensor("w", 2, 2), target = be.memory().tensor("target", 2, 2), y = be.memory().tensor("y", 2, 2), mse = be.memory().tensor("mse", 1);
            be.memory().set(x, 1f, 2f, -1f, 3f);
            be.memory().set(w, 0.9f, 0.2f, -0.4f, 0.3f);
            be.memory().set(target, 1.3f, 0.2f, -0.3f, 1.3f);
            Param tau = Slab.of(be.memory(), "tau", slab -> slab.param("tau", Param.Kind.TRANSFORM, 2));
            be.memory().set(tau.value(), (float) Math.log(s[0]), (float) Math.log(s[1]));
            try (AdamW adam = new AdamW(be, List.of(new AdamW.Group(List.of(tau), 0, 0)), AdamW.Config.DEFAULTS);
                 Step step = new Step(be, "step", true, t -> {
                     Tensor scaled = Ops.channelScale(t, w, tau.value(), Channels.each(2, 1));
                     Tensor q = quantized ? Ops.minMaxQuant(t, scaled, new Grid(2, 2), range) : scaled;
                     Tensor out = Ops.linear(t, Ops.channelScale(t, x, tau.value(), Channels.each(2, -1)), q, null, null);
                     Ops.mse(t, mse, out, target);
                     t.backward();
                     t.backend().copy(y, out);
                 })) {
                step.run();
                float[] d = be.memory().floats(tau.value().grad);
                // dL/dτ = s · dL/ds, and the mean over 4 elements is half of ½ the sum
                return new Worked(be.memory().floats(y), 4 * be.memory().floats(mse)[0], new double[] {2 * d[0] / s[0], 2 * d[1] / s[1]});
            }
        }
    }

    @Test
    void workedExample() {
        Worked one = worked(new double[] {1, 1}, true, false), other = worked(new double[] {0.5, 2}, true, false);
        assertArrayEquals(new float[] {1.5f, 0, 0, 1.1666667f}, one.output, 1e-6f);
        assertArrayEquals(new float[] {1.35f, 0, -0.225f, 1.3333333f}, other.output, 1e-6f);
        assertEquals(0.1877778, one.error, 1e-6);
        assertEquals(0.0492361, other.error, 1e-6);
        assertArrayEquals(new double[] {-0.0622222, -0.0090625}, other.slope, 1e-6);
    }

    /**
     * Where the gradient knows that the range follows the weights, scaling all channels alike changes nothing: Σ s · dL/ds = 0, as it is of the loss
     * itself, whose true slope here, (−0.0804167, 0.0201042), has these signs; straight through the range the second one is wrong.
     */
    @Test
    void workedExampleThroughTheRange() {
        Worked one = worked(new double[] {1, 1}, true, true), other = worked(new double[] {0.5, 2}, true, true);
        assertArrayEquals(new float[] {1.35f, 0, -0.225f, 1.3333333f}, other.output, 1e-6f, "the value is the same");
        assertArrayEquals(new double[] {0.1585714, -0.1585714}, one.slope, 1e-6);
        assertArrayEquals(new double[] {-0.0254167, 0.0063542}, other.slope, 1e-6);
    }

    /** A row of 4 bits about a fixed middle: s = 0.9/7, codes 7, 2 and −3. */
    @Test
    void workedSymmetricRow() {
        try (Backend be = new ReferenceBackend()) {
            Tensor w = be.memory().tensor("w", 1, 3), step = be.memory().tensor("step", 1), zero = be.memory().tensor("zero", 1), y = be.memory().tensor("y", 1, 3);
            Grid grid = new Grid(4, 3, Grid.Offset.MIDDLE);
            be.memory().set(w, 0.9f, 0.2f, -0.4f);
            be.groupRange(step, zero, w, grid);
            be.fakeQuant(y, w, step, zero, grid);
            assertArrayEquals(new float[] {0.1285714f}, be.memory().floats(step), 1e-7f);
            assertArrayEquals(new float[] {0.9f, 0.2571429f, -0.3857143f}, be.memory().floats(y), 1e-7f);
        }
    }

    @Test
    void withoutQuantizationNothingPulls() {
        assertArrayEquals(new double[] {0, 0}, worked(new double[] {0.5, 2}, false, false).slope, 1e-6);
        assertArrayEquals(new double[] {0, 0}, worked(new double[] {3, 0.1}, false, false).slope, 1e-6);
    }

    private static double[] random(int n, int key) {
        double[] s = new double[n];
        for (int i = 0; i < n; i++) s[i] = Math.exp(0.5 * Philox.normal(4, i, key, 0));
        return s;
    }

    /** Random scales in every pair: through the sites and merged, the logits are what they were. */
    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3"})
    void everyPairLeavesTheModelAsItIs(String config) {
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, Tiny.named(config), 5);
            float[] before = new Probe(be, m).logits(IDS);
            Merge merge = new Merge(be.memory());
            int key = 0;
            for (Block b : m.blocks()) {
                for (ScalePair pair : ScalePair.of(b, m.config, true)) {
                    double[] s = random(pair.scales(), key++);
                    Param tau = new Param("tau", Param.Kind.TRANSFORM, be.memory().tensor("tau", pair.scales()));
                    float[] log = new float[s.length];
                    for (int i = 0; i < log.length; i++) log[i] = (float) Math.log(s[i]);
                    be.memory().set(tau.value(), log);
                    pair.install(tau);
                    pair.merge(merge, s);
                }
            }
            assertEquals(0, Probe.off(before, new Probe(be, m).logits(IDS)), 1e-5, "through the sites");
            m.blocks().forEach(Block::clearSites);
            merge.store();
            assertEquals(0, Probe.off(before, new Probe(be, m).logits(IDS)), 1e-5, "merged");
        }
    }

    /** Scales of key/value heads dealt to query heads in turn instead of group by group change what the model says. */
    @Test
    void theWrongHeadOrderIsSeen() {
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, Tiny.LLAMA, 5);
            float[] before = new Probe(be, m).logits(IDS);
            Block b = m.blocks().getFirst();
            int kv = m.config.K() * m.config.D();
            ScalePair wrong = new ScalePair("o", List.of(b.o), null, b.v, b.valueSite, kv, new Channels(kv, m.config.H() / m.config.K(), 1));
            Merge merge = new Merge(be.memory());
            wrong.merge(merge, random(kv, 1));
            merge.store();
            assertTrue(Probe.off(before, new Probe(be, m).logits(IDS)) > 1e-2);
        }
    }

    @Test
    void mergedGainsAndTheSquareRootStart() {
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, Tiny.LLAMA, 5);
            Merge merge = new Merge(be.memory());
            ScalePair qkv = ScalePair.of(m.blocks().getFirst(), m.config, false).getFirst();
            double[] s = new double[qkv.scales()], gains = merge.of(qkv.gain());
            java.util.Arrays.fill(s, 1);
            s[0] = 0.5;
            s[1] = 2;
            gains[0] = 1;
            gains[1] = 0.8;
            qkv.merge(merge, s);
            assertArrayEquals(new double[] {2, 0.4}, java.util.Arrays.copyOf(gains, 2), 1e-12);
            // rows [0.9, 0.2], [−0.4, 0.3], [0.1, −0.8] over the three readers
            for (var l : qkv.readers()) java.util.Arrays.fill(merge.of(l.weight), 0);
            int I = m.config.C();
            double[] q = merge.of(qkv.readers().get(0).weight), k = merge.of(qkv.readers().get(1).weight);
            q[0] = 0.9;
            q[1] = 0.2;
            q[I] = -0.4;
            q[I + 1] = 0.3;
            k[0] = 0.1;
            k[1] = -0.8;
            double[] most = qkv.largest(merge);
            assertEquals(1.054093, 1 / Math.sqrt(most[0]), 1e-6);
            assertEquals(1.118034, 1 / Math.sqrt(most[1]), 1e-6);
        }
    }

    /** The stage changes nothing that is computed, and what is rounded after it is nearer to the model than without it. */
    @ParameterizedTest
    @EnumSource(Teq.Loss.class)
    void roundingAfterItHurtsLess(Teq.Loss loss) {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            double plain = Loud.run(temp, be, model, List.of(new Rtn(3, 12))).get(1).kl();
            List<Row> teq = Loud.run(temp, be, model, List.of(new Teq(3, 12, 60, 8, 3e-2, 0.05, loss, false, true, false, Part.ALL, true, false), new Rtn(3, 12)));
            assertEquals(0, teq.get(1).kl(), 1e-5, "merged, it computes what it did");
            System.out.printf("teq with %s: KL %.4f of rounding to nearest becomes %.4f%n", loss, plain, teq.get(2).kl());
            assertTrue(teq.get(2).kl() < plain, "KL " + teq.get(2).kl() + ", without it " + plain);
        }
    }

    /** GPTQ on the same driver: nearer to the model than rounding to nearest, in both orders of columns. */
    @Test
    void gptqBeatsRoundingToNearest() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            double rtn = Loud.run(temp, be, model, List.of(new Rtn(3, 12))).get(1).kl();
            for (boolean order : new boolean[] {false, true}) {
                double gptq = Loud.run(temp, be, model, List.of(new Gptq(3, 12, 0.01, order, true, false, 8, Part.ALL, 0))).get(1).kl();
                assertTrue(gptq < 0.8 * rtn, "act-order " + order + ": KL " + gptq + ", to nearest " + rtn);
            }
        }
    }

    /** AWQ scales what loud channels read, and is nearer to the model than rounding to nearest. */
    @Test
    void awqBeatsRoundingToNearest() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            double rtn = Loud.run(temp, be, model, List.of(new Rtn(3, 12))).get(1).kl(), awq = Loud.run(temp, be, model, List.of(new Awq(3, 12, true, 8, Part.ALL))).get(1).kl();
            System.out.printf("awq: KL %.4f, to nearest %.4f%n", awq, rtn);
            assertTrue(awq < 0.8 * rtn, "KL " + awq + ", to nearest " + rtn);
        }
    }
}
