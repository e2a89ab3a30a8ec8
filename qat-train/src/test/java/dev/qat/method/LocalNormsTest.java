package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Probe;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.train.Stage;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** FPTQuant's local phase: its gradient, its worked case, what it leaves alone; and the stages of its kind. */
final class LocalNormsTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};

    @TempDir
    Path temp;

    @Test
    void theGradientIsTheSlope() {
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, Tiny.LLAMA, 5);
            LocalNorms norms = new LocalNorms(m.config, new Merge(be.memory()), m.blocks().getFirst(), 4);
            double[] x = norms.parameters();
            for (int i = 0; i < x.length; i++) x[i] += 0.1 * Philox.normal(4, i, 0, 0);
            double[] g = new double[x.length], none = new double[x.length];
            norms.loss(g);
            for (int i = 0; i < x.length; i++) {
                double at = x[i], h = 1e-5;
                x[i] = at + h;
                double high = norms.loss(none);
                x[i] = at - h;
                double low = norms.loss(none);
                x[i] = at;
                assertEquals((high - low) / (2 * h), g[i], 1e-8, "parameter " + i);
            }
        }
    }

    /** The worked case of the scale between up and down: loss 7.184370 and its slope at s = 1, and the optimum 3.88124. */
    @Test
    void scalesOfUpAndDown() {
        ModelConfig c = new ModelConfig("llama", 4, 2, 2, 1, 1, 1, 2, 1e-5f, new ModelConfig.RopeScaling(1e4, "default", 1, 1, 1, 0), 8, false, false, false, false, false);
        double[] none = new double[4], up = {4, -2, 1, 1}, down = {0.5, 3, 0.25, -6};
        LocalNorms norms = new LocalNorms(c, 4, none, none, none, none, up, down);
        double[] g = new double[norms.parameters().length];
        assertEquals(7.184370, norms.loss(g), 1e-6);
        assertArrayEquals(new double[] {2.855679, -4.286278}, Arrays.copyOfRange(g, g.length - 2, g.length), 1e-6);
        norms.train(500, 0.01, () -> {});
        assertEquals(3.88124, norms.loss(g), 5e-3);
    }

    @ParameterizedTest
    @ValueSource(strings = {"llama", "biased", "qwen2", "qwen3"})
    void theNormsFallAndTheModelStays(String config) {
        String text = switch (config) {
            case "llama" -> Tiny.LLAMA;
            case "biased" -> Tiny.LLAMA_BIASED;
            case "qwen2" -> Tiny.QWEN2;
            default -> Tiny.QWEN3;
        };
        try (Backend be = new CpuBackend(1)) {
            Model m = Tiny.model(be, text, 5);
            float[] before = new Probe(be, m).logits(IDS);
            m.untie();
            new Rotate(true, true, false).fold(m, 3);
            assertEquals(0, Probe.off(before, new Probe(be, m).logits(IDS)), 1e-4, "turned");
            for (Block b : m.blocks()) {
                Merge weights = new Merge(be.memory());
                LocalNorms norms = new LocalNorms(m.config, weights, b, 4);
                double[] losses = norms.train(100, 0.01, () -> {});
                assertTrue(losses[99] < losses[0], losses[0] + " to " + losses[99]);
                norms.merge(weights, b);
                weights.store();
            }
            assertEquals(0, Probe.off(before, new Probe(be, m).logits(IDS)), 1e-4, "optimized");
        }
    }

    @Test
    void smoothQuantsScales() {
        double[] s = SmoothQuant.scales(new double[] {2, 8}, new double[] {1, 0.25}, 0.5);
        assertArrayEquals(new double[] {1.4142136, 5.6568542}, s, 1e-6);
    }

    /** On a model with loud channels, 4-bit activations hurt less after each of them. */
    @Test
    void activationsOfFourBitsHurtLess() {
        try (Backend be = new CpuBackend(1)) {
            Path model = Loud.write(temp, be, Tiny.LLAMA, 10);
            Stage rounding = new MinMaxRounding("4-4-4", -1, false, false);
            double plain = Loud.run(temp, be, model, List.of(rounding)).getLast().kl();
            for (Stage s : List.of(new SmoothQuant(0.5, 8, dev.qat.train.Part.ALL), Rotate.DEFAULTS, new FptLocal(4, 50, 0.01, true, false, false))) {
                double after = Loud.run(temp, be, model, List.of(s, rounding)).getLast().kl();
                System.out.printf("%s, then 4-4-4: KL %.4f, without it %.4f%n", s, after, plain);
                assertTrue(after < plain, s + ": KL " + after + ", without it " + plain);
            }
        }
    }
}
