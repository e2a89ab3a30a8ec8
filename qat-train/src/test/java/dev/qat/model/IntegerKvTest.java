package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.CausalLm;
import dev.qat.ops.Backend;
import dev.qat.ops.Sampling;
import dev.qat.train.ModelLm;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Keys and values kept as whole numbers give the tokens of the fake-quantized path, to the last, in a fraction of the bytes. */
final class IntegerKvTest {
    private static final int B = 3, TOKENS = 24;

    @ParameterizedTest(name = "{0}, {1} bits, symmetric {2}, a scale for every head {3}")
    @CsvSource({"llama, 4, true, false", "llama, 3, true, true", "llama, 8, true, false", "llama, 4, false, true", "qwen3, 4, true, true", "qwen3, 8, false, false"})
    void integersGiveTheTokensOfFakeQuantization(String kind, int bits, boolean symmetric, boolean heads) {
        try (Backend cpu = new CpuBackend(2)) {
            Model m = Tiny.model(cpu, kind.equals("llama") ? Tiny.LLAMA : Tiny.QWEN3, 5);
            int[][] full = speak(new ModelLm(m, cpu), Sampling.GREEDY);
            new TokenRounding(TokenRounding.OFF, bits, heads, symmetric, false).install(m);
            for (Sampling how : new Sampling[] {Sampling.GREEDY, new Sampling(1, 0, 1, 3)}) {
                int[][] fake = speak(new ModelLm(m, cpu, false), how), integers = speak(new ModelLm(m, cpu, true), how);
                assertArrayEquals(fake, integers);
            }
            assertEquals(TOKENS, full[0].length);
        }
    }

    @ParameterizedTest
    @CsvSource({"4, true, false", "8, true, true", "4, false, true", "3, true, false"})
    void bytesAreCodesAndScales(int bits, boolean symmetric, boolean heads) {
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, Tiny.LLAMA, 5);
            new TokenRounding(TokenRounding.OFF, bits, heads, symmetric, false).install(m);
            long parts = heads ? m.config.K() : 1, width = (long) m.config.K() * m.config.D(), rows = 2L * m.config.layers() * B * TOKENS;
            try (ModelLm lm = new ModelLm(m, cpu); CausalLm.Decoder d = lm.decoder(B, TOKENS, Sampling.GREEDY);
                 ModelLm floats = new ModelLm(m, cpu, false); CausalLm.Decoder f = floats.decoder(B, TOKENS, Sampling.GREEDY)) {
                assertEquals(rows * parts * ((width / parts * bits + 31) / 32 * 4 + (symmetric ? 4 : 8)), d.cacheBytes());
                assertEquals(rows * width * 4, f.cacheBytes());
            }
        }
    }

    /** The tokens of three sequences, which begin one after the other in their rows of the batch. */
    private static int[][] speak(ModelLm lm, Sampling how) {
        int[][] said = new int[B][TOKENS];
        int[] now = {1, 2, 3}, positions = new int[B], sequence = {0, 1, 2}, next = new int[B], best = new int[B];
        try (lm; CausalLm.Decoder d = lm.decoder(B, TOKENS, how)) {
            for (int t = 0; t < TOKENS; t++) {
                d.step(now, positions, sequence, next, best);
                for (int b = 0; b < B; b++) {
                    said[b][t] = next[b];
                    now[b] = next[b];
                    // row b begins a new sequence at step 5 + b: what the old one left behind must not be seen
                    boolean over = t == 5 + b;
                    positions[b] = over ? 0 : positions[b] + 1;
                    if (over) sequence[b] += B;
                }
            }
        }
        return said;
    }
}
