package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.data.Generation.Mode;
import dev.qat.ops.Philox;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Sequences that enter and leave a batch, on a model whose likeliest token says what came before it. */
final class SelfGeneratorTest {
    private static final int V = 40, END = 39;

    @TempDir
    Path temp;

    /** The likeliest token is 20 + (last token) % 10; a drawn one is a function of (sequence, position) and now and then the end. */
    private static final class Scripted implements CausalLm {
        int steps, rows;

        @Override
        public int vocabulary() {
            return V;
        }

        @Override
        public int context() {
            return 64;
        }

        @Override
        public void score(int B, int T, int[] ids, int[] targets, float[] nll) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Decoder decoder(int B, int capacity, Sampling how) {
            int[] expected = new int[B];
            return new Decoder() {
                @Override
                public void step(int[] ids, int[] positions, int[] sequence, int[] next, int[] best) {
                    steps++;
                    for (int b = 0; b < B; b++) {
                        if (sequence[b] < 0) continue;
                        rows++;
                        if (positions[b] != 0) assertEquals(expected[b], positions[b], "row " + b + " jumped");
                        expected[b] = positions[b] + 1;
                        assertTrue(positions[b] < capacity);
                        next[b] = drawn(sequence[b], positions[b] + 1);
                        best[b] = 20 + ids[b] % 10;
                    }
                }

                @Override
                public void close() {}
            };
        }

        @Override
        public void close() {}
    }

    private static int drawn(int sequence, int position) {
        int token = (int) (Philox.uniform(5, 0, sequence, position) * 20);
        return token == 0 ? END : token;
    }

    private static Generation settings(Mode mode, int sequences, int batch, int shard) {
        return new Generation(mode, sequences, 24, 3, 5, 1, 0, 1, batch, shard).resolved(V, 64);
    }

    private static int[][] all(Generation g) {
        try (SelfGenerator generator = new SelfGenerator(new Scripted(), g, 7, new int[] {END})) {
            int[][] rows = new int[g.sequences()][];
            int n = 0;
            for (int s = 0; s < g.shards(); s++) for (int[] row : generator.shard(s, _ -> {})) rows[n++] = row;
            assertEquals(rows.length, n);
            return rows;
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 3, 8, 50})
    void aSequenceDoesNotDependOnHowItWasBatched(int batch) {
        assertArrayEquals(all(settings(Mode.HYBRID, 120, 4, 20)), all(settings(Mode.HYBRID, 120, batch, 60)));
    }

    /** A decoder that knows nothing goes on from wherever a shard stood, and from a file of it. */
    @ParameterizedTest
    @ValueSource(ints = {1, 7, 64})
    void fromWhereverItStoodTheShardIsTheSame(int batch) throws Exception {
        Generation g = settings(Mode.HYBRID, 200, batch, 150);
        List<Standing> stood = new ArrayList<>();
        try (SelfGenerator whole = new SelfGenerator(new Scripted(), g, 7, new int[] {END})) {
            int[] step = {0};
            int[][] expected = whole.shard(1, null, new SelfGenerator.Watcher() {
                @Override
                public void stands(long tokens) {
                    step[0]++;
                }

                @Override
                public boolean ends() {
                    return step[0] % 5 == 1;
                }

                @Override
                public void keep(Standing standing) {
                    stood.add(standing);
                }
            });
            assertTrue(stood.size() > 3, stood.size() + " times");
            for (Standing s : stood) {
                Path file = temp.resolve("begun");
                String settings = new Sha256().add("settings").hex();
                s.write(file, settings);
                Standing read = Standing.read(file, settings, 1).orElseThrow();
                assertEquals(s.tokens(), read.tokens());
                try (SelfGenerator again = new SelfGenerator(new Scripted(), g, 7, new int[] {END})) {
                    long[] tokens = {0};
                    assertArrayEquals(expected, again.shard(1, read, n -> tokens[0] = n));
                    assertEquals(Arrays.stream(expected).mapToLong(r -> r.length).sum(), Math.max(tokens[0], s.tokens()));
                }
            }
        }
    }

    @Test
    void aStandingThatIsNotWholeOrNotThisSetsCountsForNothing() throws Exception {
        Path file = temp.resolve("begun");
        String mine = new Sha256().add("mine").hex();
        new Standing(3, new int[][] {{5, 6}, {7}}, new int[] {1, -1}, new int[] {0, 0}).write(file, mine);
        byte[] bytes = Files.readAllBytes(file);
        assertTrue(Standing.read(file, mine, 3).isPresent());
        assertTrue(Standing.read(file, mine, 2).isEmpty());
        assertTrue(Standing.read(file, new Sha256().add("another").hex(), 3).isEmpty());
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] ^= 4;
            Files.write(file, bytes);
            assertTrue(Standing.read(file, mine, 3).isEmpty(), "byte " + i);
            bytes[i] ^= 4;
            Files.write(file, Arrays.copyOf(bytes, i));
            assertTrue(Standing.read(file, mine, 3).isEmpty(), i + " bytes");
        }
    }

    @Test
    void everySequenceIsFirstTokenThenGreedyThenDrawnToTheEnd() {
        int[][] rows = all(settings(Mode.HYBRID, 120, 8, 120));
        Set<Integer> lengths = new HashSet<>(), greedy = new HashSet<>();
        for (int n = 0; n < rows.length; n++) {
            int[] row = rows[n];
            int g = 0;
            while (g + 1 < row.length && row[g + 1] == 20 + row[g] % 10) g++;
            greedy.add(g);
            for (int at = g + 1; at < row.length; at++) assertEquals(drawn(n, at), row[at]);
            if (row.length < 24) assertEquals(END, drawn(n, row.length), "sequence " + n + " stopped without an end");
            for (int at = 1; at < row.length; at++) assertTrue(row[at] != END);
            lengths.add(row.length);
        }
        assertEquals(Set.of(3, 4, 5), greedy);
        assertTrue(lengths.size() > 5, "lengths " + lengths);
    }

    @Test
    void everyTokenOfTheVocabularyBeginsEquallyMany() {
        int[] count = new int[V], twentieth = new int[V];
        int[][] rows = all(settings(Mode.HYBRID, 0, 8, 30));
        assertEquals(3 * V, rows.length);
        for (int[] row : rows) count[row[0]]++;
        assertTrue(Arrays.stream(count).allMatch(n -> n == 3), Arrays.toString(count));
        for (int n = 0; n < 20; n++) twentieth[rows[n][0]]++;
        assertTrue(Arrays.stream(twentieth).allMatch(n -> n <= 1), "a subset has no token twice");
        assertFalse(Arrays.equals(Arrays.copyOf(Arrays.stream(rows).mapToInt(r -> r[0]).toArray(), V), Windows.order(8, 0, V)), "the order is the seed's");
    }

    @Test
    void theAblationIsGreedyOnlyAndRandomOnly() {
        for (int[] row : all(settings(Mode.GREEDY, 40, 8, 40))) {
            assertEquals(24, row.length);
            for (int at = 1; at < 24; at++) assertEquals(20 + row[at - 1] % 10, row[at]);
        }
        int[][] random = all(settings(Mode.RANDOM, 40, 8, 40));
        for (int n = 0; n < 40; n++) for (int at = 1; at < random[n].length; at++) assertEquals(drawn(n, at), random[n][at]);
    }

    @Test
    void whoEndsMakesPlaceForTheNext() {
        Scripted model = new Scripted();
        try (SelfGenerator generator = new SelfGenerator(model, settings(Mode.RANDOM, 400, 10, 400), 7, new int[] {END})) {
            generator.shard(0, _ -> {});
        }
        assertTrue(model.rows > 0.85 * 10 * model.steps, "%d of %d rows worked".formatted(model.rows, 10 * model.steps));
    }

    @Test
    void limitsKnowDegenerateText() {
        int[] loop = new int[60], fresh = new int[60], stutter = {1, 2, 3, 3, 3, 3, 4, 5};
        for (int i = 0; i < 60; i++) {
            loop[i] = i % 3;
            fresh[i] = i;
        }
        assertEquals(1 - 3 / 57.0, Repetition.share(loop, 4), 1e-12);
        assertEquals(0, Repetition.share(fresh, 4));
        assertEquals(4, Repetition.run(stutter));
        Repetition.Limits limits = new Repetition.Limits(8, 0.5, 3);
        assertTrue(limits.keep(fresh));
        assertFalse(limits.keep(loop));
        assertFalse(limits.keep(stutter));
        assertFalse(limits.keep(new int[] {1, 2, 3}));
        assertTrue(Repetition.Limits.DEFAULTS.keep(loop));
    }

    @Test
    void whatCannotBeGeneratedIsRefused() {
        assertEquals(Fail.USAGE, assertThrows(Fail.class, () -> new Generation(Mode.HYBRID, 0, 100, 3, 5, 1, 0, 1, 8, 8).resolved(V, 64)).code());
        assertTrue(assertThrows(Fail.class, () -> new Generation(Mode.HYBRID, 0, 0, 5, 3, 1, 0, 1, 8, 8)).getMessage().contains("greedy-to = 3"));
        assertTrue(assertThrows(Fail.class, () -> new Generation(Mode.HYBRID, 0, 0, 3, 5, 0, 0, 1, 8, 8)).getMessage().contains("temperature"));
        for (String part : new String[] {"4/4", "1", "a/b", "-1/4", "0/0"}) {
            assertEquals(Fail.USAGE, assertThrows(Fail.class, () -> GeneratedSet.Part.parse(part)).code(), part);
        }
    }
}
