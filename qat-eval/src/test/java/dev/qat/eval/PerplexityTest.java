package dev.qat.eval;

import static dev.qat.eval.Bigram.encode;
import static dev.qat.eval.Bigram.logp;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.data.CausalLm;
import dev.qat.data.Windows;
import dev.qat.tensor.Fail;
import java.util.List;
import org.junit.jupiter.api.Test;

class PerplexityTest {
    private static final String TEXT = "the quick brown fox jumps over the lazy dog and goes home"; // 57 characters, 58 ids

    private static Perplexity measure(Protocol protocol, String text, int window, int batch) {
        return Perplexity.measure(new Bigram(64), protocol, protocol.cut(text, window, Bigram::encode), batch, _ -> {});
    }

    /** −Σ log p(ids[t] | ids[t−1]) for from ≤ t < to. */
    private static double loss(int[] ids, int from, int to) {
        double sum = 0;
        for (int t = from; t < to; t++) sum -= logp(ids[t - 1], ids[t]);
        return sum;
    }

    @Test
    void windowsScoresEveryTokenOfEveryWholeWindow() {
        Perplexity p = measure(Protocol.WINDOWS, TEXT, 8, 3);
        // 58 ids have 57 targets: 7 windows of 8, one target dropped
        assertEquals(56, p.tokens());
        assertEquals(loss(encode(TEXT), 1, 57) / 56, p.nll(), 1e-6);
        assertEquals(Math.exp(p.nll()), p.perplexity());
        assertEquals(8, p.window());
        assertArrayEquals(new int[] {8, 8, 8, 8, 8, 8, 8}, p.counts());
    }

    @Test
    void gptqIsItsOfficialFormula() {
        int[] ids = encode(TEXT);
        int L = 8, windows = ids.length / L;
        double sum = 0;
        for (int w = 0; w < windows; w++) sum += loss(ids, w * L + 1, (w + 1) * L) / (L - 1) * L;
        Perplexity p = measure(Protocol.GPTQ, TEXT, L, 3);
        assertEquals(Math.exp(sum / (windows * L)), p.perplexity(), 1e-5);
        assertEquals(windows * (L - 1), p.tokens());
    }

    @Test
    void storiesAreJudgedEachFromItsOwnBeginning() {
        Perplexity p = measure(Protocol.STORIES, "  a cat sat \n<|endoftext|>\n\n<|endoftext|>it ran\n", 64, 8);
        double expected = loss(encode("a cat sat"), 1, 10) + loss(encode("it ran"), 1, 7);
        assertEquals(15, p.tokens());
        assertEquals(expected / 15, p.nll(), 1e-6);
        assertEquals(9, p.window(), "no longer than the longest story");
    }

    @Test
    void aBatchIsOnlyAMatterOfSpeed() {
        for (Protocol protocol : Protocol.values()) {
            Perplexity one = measure(protocol, TEXT, 8, 1);
            for (int batch : new int[] {2, 5, 100}) {
                assertArrayEquals(one.sums(), measure(protocol, TEXT, 8, batch).sums(), protocol + " in batches of " + batch);
            }
        }
    }

    @Test
    void rawWikitextIsJoinedAsTheDatasetsRowsAre() {
        assertEquals("\n\n = Title = \n\n\n\n\n A line .\n\n\n", Protocol.wikitextRows(" \n = Title = \n \n A line .\n \n"));
        assertEquals("plain\ntext\n", Protocol.wikitextRows("plain\ntext\n"));
    }

    @Test
    void errorsAreSentences() {
        Fail longer = assertThrows(Fail.class, () -> measure(Protocol.WINDOWS, TEXT.repeat(9), 65, 1));
        assertEquals(Fail.USAGE, longer.code());
        assertTrue(longer.getMessage().contains("window = 65") && longer.getMessage().contains("64 tokens"), longer.getMessage());
        for (Protocol p : Protocol.values()) {
            Fail few = assertThrows(Fail.class, () -> measure(p, p == Protocol.STORIES ? " " : "ab", 8, 1), p.key());
            assertEquals(Fail.DATA, few.code());
            assertTrue(few.getMessage().contains("too few for one window of"), few.getMessage());
        }
    }

    @Test
    void aModelThatSaysNaNIsANumericalFailure() {
        CausalLm broken = new Bigram(64) {
            @Override
            public void score(int B, int T, int[] ids, int[] targets, float[] nll) {
                super.score(B, T, ids, targets, nll);
                nll[T + 3] = Float.NaN;
            }
        };
        Windows windows = Protocol.WINDOWS.cut(TEXT, 8, Bigram::encode);
        Fail nan = assertThrows(Fail.class, () -> Perplexity.measure(broken, Protocol.WINDOWS, windows, 3, _ -> {}));
        assertEquals(Fail.NUMERIC, nan.code());
        assertTrue(nan.getMessage().startsWith("window 1, position 3: the negative log-likelihood is NaN"), nan.getMessage());
    }

    @Test
    void usualWindowsFitTheContext() {
        assertEquals(List.of(256, 2048, 4096), List.of(Protocol.WINDOWS.usualWindow(4096), Protocol.GPTQ.usualWindow(4096), Protocol.STORIES.usualWindow(4096)));
        assertEquals(List.of(64, 64, 64), List.of(Protocol.WINDOWS.usualWindow(64), Protocol.GPTQ.usualWindow(64), Protocol.STORIES.usualWindow(64)));
    }
}
