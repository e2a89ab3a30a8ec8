package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.method.BlockAp;
import dev.qat.method.E2eQp;
import dev.qat.method.Rtn;
import dev.qat.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * EfficientQAT at 2 bits in groups of 64 on the public Llama-2 shapes, by the plan alone: device memory and hours against those
 * published for one 80 GB card (arXiv 2407.11062, table 7).
 */
final class PlanTargetsTest {
    private static final int SAMPLES = 4096;

    @TempDir
    Path temp;

    private enum Shape {
        SEVEN(4096, 11008, 32, 32, 32), SEVENTY(8192, 28672, 80, 64, 8);

        final int C, F, layers, H, K;

        Shape(int C, int F, int layers, int H, int K) {
            this.C = C;
            this.F = F;
            this.layers = layers;
            this.H = H;
            this.K = K;
        }
    }

    private Plan plan(Shape s, int length, Stage... stages) throws IOException {
        Path model = Files.createDirectories(temp.resolve("llama"));
        Files.writeString(model.resolve("config.json"), """
                {"model_type": "llama", "vocab_size": 32000, "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
                 "num_key_value_heads": %d, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "tie_word_embeddings": false}
                """.formatted(s.C, s.F, s.layers, s.H, s.K));
        List<Path> text = List.of(Path.of("text.txt"));
        Recipe r = new Recipe("plan", new Recipe.Source(model, Recipe.Init.LOAD), "cuda", Precision.BF16, false, 0, 1, temp,
                new Recipe.Data(text, List.of(), 0, length, SAMPLES, 0, 1, 0, 0), new Recipe.Eval(text, 0, length, 16, 1), Recipe.Save.DEFAULTS,
                Recipe.Checkpoint.DEFAULTS, Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", List.of(stages));
        return Planner.plan(r, DType.BF16, CudaBackend.HELD);
    }

    /** The official settings: 4096 samples of 2048 tokens, 2 epochs, batches of 2. */
    private Plan blockAp(Shape s) throws IOException {
        return plan(s, 2048, new BlockAp(2, 64, 2, 2, 0, 1e-4, 0.05, Part.ALL, false));
    }

    /** The official settings: windows of 4096 tokens, batches of 32, which are computed one window at a time. */
    private Plan e2eQp(Shape s, int length, boolean stow) throws IOException {
        return plan(s, length, new Rtn(2, 64), new E2eQp(1, 32, 0, 0.3, 0.03, EndToEnd.Loss.CROSS_ENTROPY, 0, Part.ALL, false, true, true, 32, stow));
    }

    private static void memory(String what, Plan p, double most) {
        double got = p.peakBytes() * 1e-9;
        System.err.printf("%s: %.2f GB of device memory, published %.1f%n", what, got, most);
        assertTrue(got <= most, what + " takes " + got + " GB, " + p.owners());
    }

    private static void hours(String what, Plan p, double most) {
        double a100 = hours(p, Roofline.Card.A100), h100 = hours(p, Roofline.Card.H100);
        System.err.printf("%s: %.2f h on an A100, %.2f h on an H100, published %.1f%n", what, a100, h100, most);
        assertTrue(a100 <= most && h100 < a100, what + " takes " + a100 + " h on an A100, " + h100 + " h on an H100");
        assertTrue(a100 > 0.1 * most, what + ": no card is that fast");
    }

    private static double hours(Plan p, Roofline.Card card) {
        return Roofline.hours(p, card).values().stream().mapToDouble(h -> h).sum();
    }

    @Test
    void blockApOf7B() throws IOException {
        Plan p = blockAp(Shape.SEVEN);
        memory("Block-AP of 7B", p, 8.5);
        hours("Block-AP of 7B", p, 3.3);
    }

    @Test
    void blockApOf70B() throws IOException {
        Plan p = blockAp(Shape.SEVENTY);
        memory("Block-AP of 70B", p, 29.9);
        hours("Block-AP of 70B", p, 26.6);
    }

    @Test
    void e2eQpOf7B() throws IOException {
        Plan p = e2eQp(Shape.SEVEN, 4096, false);
        memory("E2E-QP of 7B", p, 5.6);
        hours("E2E-QP of 7B", p, 1.5);
    }

    /** What blocks start again from waits on the host; windows of half the length need that no more. */
    @Test
    void e2eQpOf70B() throws IOException {
        Plan p = e2eQp(Shape.SEVENTY, 4096, true);
        memory("E2E-QP of 70B", p, 34.2);
        hours("E2E-QP of 70B", p, 14.3);
        memory("E2E-QP of 70B, 2048 tokens, nothing stowed", e2eQp(Shape.SEVENTY, 2048, false), 34.2);
    }
}
