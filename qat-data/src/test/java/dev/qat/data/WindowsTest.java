package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class WindowsTest {
    private static int[] upTo(int n) {
        return IntStream.range(0, n).map(i -> 10 + i).toArray();
    }

    @Test
    void trainingWindowsTileTheStreamAndMaskOnlyItsVeryEnd() {
        Windows w = Windows.train(upTo(8), 4);
        assertEquals(2, w.count());
        assertArrayEquals(new int[] {10, 11, 12, 13}, w.inputs(0));
        assertArrayEquals(new int[] {11, 12, 13, 14}, w.targets(0));
        assertArrayEquals(new int[] {14, 15, 16, 17}, w.inputs(1));
        assertArrayEquals(new int[] {15, 16, 17, Windows.MASK}, w.targets(1));
        assertArrayEquals(new int[] {15, 16, 17, 18}, Windows.train(upTo(9), 4).targets(1));
        assertEquals(2, Windows.train(upTo(11), 4).count());
        assertArrayEquals(new int[] {12, 13}, Windows.train(List.of(new int[] {10, 11, 12}, new int[] {13}), 2).inputs(1));
    }

    @Test
    void evaluationWindowsNeedEveryTarget() {
        assertEquals(1, Windows.evaluation(upTo(8), 4).count());
        Windows w = Windows.evaluation(upTo(9), 4);
        assertEquals(2, w.count());
        assertArrayEquals(new int[] {14, 15, 16, 17}, w.inputs(1));
        assertArrayEquals(new int[] {15, 16, 17, 18}, w.targets(1));
    }

    @Test
    void separateSequencesNeverMeet() {
        Windows w = Windows.separate(List.of(new int[] {1, 2, 3, 4, 5}, new int[] {6}, new int[] {7, 8, 9}, new int[] {}), 4);
        assertEquals(2, w.count());
        assertArrayEquals(new int[] {1, 2, 3, 4}, w.inputs(0));
        assertArrayEquals(new int[] {2, 3, 4, 5}, w.targets(0));
        assertArrayEquals(new int[] {7, 8, 9, 0}, w.inputs(1));
        assertArrayEquals(new int[] {8, 9, -1, -1}, w.targets(1));
    }

    /** For every length: each sequence's targets are seen once, in order, and nothing else is. */
    @Test
    void separateSequencesLoseNoTarget() {
        for (int length = 1; length <= 9; length++) {
            for (int n = 2; n <= 20; n++) {
                int[] a = upTo(n), b = IntStream.range(0, n + 3).map(i -> 100 + i).toArray();
                Windows w = Windows.separate(List.of(a, b), length);
                int[] targets = IntStream.range(0, w.count()).flatMap(i -> Arrays.stream(w.targets(i))).filter(t -> t >= 0).toArray();
                int[] expected = IntStream.concat(Arrays.stream(a).skip(1), Arrays.stream(b).skip(1)).toArray();
                assertArrayEquals(expected, targets, "length " + length + ", n " + n);
            }
        }
    }

    @Test
    void fillStacksWindows() {
        Windows w = Windows.train(upTo(12), 3);
        int[] inputs = new int[6], targets = new int[6];
        w.fill(new int[] {3, 1}, inputs, targets);
        assertArrayEquals(new int[] {19, 20, 21, 13, 14, 15}, inputs);
        assertArrayEquals(new int[] {20, 21, -1, 14, 15, 16}, targets);
        assertThrows(Fail.class, () -> w.fill(new int[] {0}, inputs, targets));
    }

    @Test
    void tooLittleTextIsASentence() {
        Failing.data(() -> Windows.train(upTo(3), 4), "3 tokens", "window of 4");
        Failing.data(() -> Windows.evaluation(upTo(4), 4), "4 tokens");
        Failing.data(() -> Windows.evaluation(upTo(0), 1), "0 tokens");
        Failing.data(() -> Windows.separate(List.of(new int[] {1}), 4), "window of 4");
        assertThrows(Fail.class, () -> Windows.train(upTo(3), 0));
        assertThrows(Fail.class, () -> Windows.train(new int[] {1, -1, 2}, 2));
    }

    /** README of the shared assets: number of targets of the tail protocol, from golden.json. */
    @Test
    void theTailProtocolCountsWhatTheReferenceCounts() {
        String tail = TextFiles.read(Shared.asset("text/tinystories_head.txt")).getFirst().text().substring(160_027);
        assertTrue(tail.startsWith("The girl was a bit scared"));
        for (String name : List.of("stories260K", "stories3M")) {
            int expected = Json.object(Shared.asset(name).resolve("golden.json")).at("/perplexity/results/tokenizer.json/fp32/ts_tail_tokens").asInt();
            try (Tokenizer t = Tokenizer.of(Shared.asset(name))) {
                assertEquals(expected, 256 * Windows.evaluation(t.encodeWithBos(tail), 256).count(), name);
            }
        }
    }

    @Test
    void ordersArePermutationsThatDependOnSeedAndEpochOnly() {
        for (int n : new int[] {0, 1, 2, 3, 1000}) {
            int[] order = Windows.order(42, 0, n), sorted = order.clone();
            Arrays.sort(sorted);
            assertArrayEquals(IntStream.range(0, n).toArray(), sorted);
            assertArrayEquals(order, Windows.order(42, 0, n));
        }
        assertFalse(Arrays.equals(Windows.order(42, 0, 1000), Windows.order(42, 1, 1000)));
        assertFalse(Arrays.equals(Windows.order(42, 0, 1000), Windows.order(43, 0, 1000)));
        // Frozen: a changed order would silently change every published run.
        assertArrayEquals(FROZEN, Windows.order(42, 1, 10));
    }

    private static final int[] FROZEN = {1, 9, 2, 5, 8, 4, 0, 7, 3, 6}; // by a separate Python program

    /** Each of the 24 orders of 4 things about equally often: 24000 epochs, chi-square with 23 degrees of freedom. */
    @Test
    void ordersAreUniform() {
        int[] counts = new int[256];
        for (int epoch = 0; epoch < 24_000; epoch++) {
            int[] o = Windows.order(7, epoch, 4);
            counts[o[0] * 64 + o[1] * 16 + o[2] * 4 + o[3]]++;
        }
        double chi = 0;
        int kinds = 0;
        for (int c : counts) {
            if (c == 0) continue;
            kinds++;
            chi += (c - 1000.0) * (c - 1000.0) / 1000;
        }
        assertEquals(24, kinds);
        assertTrue(chi < 49.7, "chi-square " + chi + ", the 99.9% point is 49.7");
    }
}
