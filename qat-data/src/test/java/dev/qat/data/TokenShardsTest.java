package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenShardsTest {
    private static final Vocabulary SMALL = new Vocabulary("ab".repeat(32), 300), LARGE = new Vocabulary("ab".repeat(32), 151_669);

    @TempDir
    Path dir;

    private Path write(Vocabulary vocabulary, int[]... sequences) {
        try (TokenShards.Writer out = TokenShards.Writer.open(dir, vocabulary)) {
            for (int[] s : sequences) out.append(s);
            return out.finish();
        }
    }

    private static int[] random(int n, int vocab, long seed) {
        return new Random(seed).ints(n, 0, vocab).toArray();
    }

    @Test
    void theLayoutIsAsDocumented() throws IOException {
        byte[] small = Files.readAllBytes(write(SMALL, new int[] {1, 299}, new int[] {256}));
        ByteBuffer b = ByteBuffer.wrap(small).order(ByteOrder.LITTLE_ENDIAN);
        assertEquals("QATTOKEN", new String(small, 0, 8, StandardCharsets.US_ASCII));
        assertEquals(List.of(1, 2, 3, 0, 300, 0), List.of(b.getInt(8), b.getInt(12), b.getInt(16), b.getInt(20), b.getInt(24), b.getInt(28)));
        assertEquals(HexFormat.of().formatHex(SMALL.fingerprint()), HexFormat.of().formatHex(small, 32, 64));
        assertArrayEquals(new byte[] {1, 0, 43, 1, 0, 1}, Arrays.copyOfRange(small, 64, small.length));
        byte[] large = Files.readAllBytes(write(LARGE, new int[] {151_668}));
        assertEquals(4, ByteBuffer.wrap(large).order(ByteOrder.LITTLE_ENDIAN).getInt(12));
        assertArrayEquals(new byte[] {0x74, 0x50, 2, 0}, Arrays.copyOfRange(large, 64, large.length));
    }

    @Test
    void theWidestTwoByteVocabularyKeepsItsLastId() {
        Vocabulary full = new Vocabulary("00", 1 << 16);
        write(full, new int[] {0, 32768, 65535});
        try (TokenShards t = TokenShards.open(dir, full)) {
            int[] ids = new int[3];
            t.read(ids, 0, 3, 0);
            assertArrayEquals(new int[] {0, 32768, 65535}, ids);
        }
    }

    @Test
    void manyShardsReadAsOneStream() throws IOException {
        for (Vocabulary vocabulary : List.of(SMALL, LARGE)) {
            int[] all = random(300_000, vocabulary.size(), 5);
            int[] cuts = {0, 7, 7, 200_000, 300_000}; // the second shard is empty
            for (int i = 0; i + 1 < cuts.length; i++) write(vocabulary, Arrays.copyOfRange(all, cuts[i], cuts[i + 1]));
            assertEquals("tokens-00003.bin", AtomicFileTest.names(dir).getLast());
            try (TokenShards t = TokenShards.open(dir, vocabulary)) {
                assertEquals(all.length, t.count());
                for (int[] range : new int[][] {{0, 300_000}, {0, 7}, {5, 10}, {7, 1}, {199_999, 2}, {300_000, 0}}) {
                    int[] got = new int[range[1] + 2];
                    t.read(got, 1, range[1], range[0]);
                    assertArrayEquals(Arrays.copyOfRange(all, range[0], range[0] + range[1]), Arrays.copyOfRange(got, 1, 1 + range[1]));
                    assertEquals(0, got[0] + got[got.length - 1], "nothing written outside the range");
                }
            }
            for (String name : AtomicFileTest.names(dir)) Files.delete(dir.resolve(name));
        }
    }

    @Test
    void aCursorGoesOnWhereItWasSaved() {
        int[] all = random(1000, 300, 9);
        write(SMALL, all);
        long saved;
        try (TokenShards t = TokenShards.open(dir, SMALL)) {
            TokenShards.Cursor c = t.cursor(0);
            assertEquals(64, c.take(new int[64]));
            saved = c.position();
            assertEquals(1000 - 64, c.remaining());
        }
        try (TokenShards t = TokenShards.open(dir, SMALL)) {
            TokenShards.Cursor c = t.cursor(saved);
            int[] rest = new int[2000];
            assertEquals(936, c.take(rest));
            assertArrayEquals(Arrays.copyOfRange(all, 64, 1000), Arrays.copyOf(rest, 936));
            assertEquals(0, c.take(rest));
            Failing.data(() -> t.cursor(1001), "1001", "1000");
            Failing.data(() -> t.cursor(-1), "-1");
        }
    }

    @Test
    void anotherTokenizerOrVocabularyIsRefused() {
        Path file = write(SMALL, new int[] {1});
        Failing.data(() -> TokenShards.open(dir, LARGE), file, "size 300", "151669", "tokenize the text again");
        Failing.data(() -> TokenShards.open(file, new Vocabulary("cd".repeat(32), 300)), file, "another tokenizer");
        try (TokenShards.Writer out = TokenShards.Writer.open(dir, SMALL)) {
            Failing.data(() -> out.append(new int[] {300}), "300", "0 to 299");
            Failing.data(() -> out.append(new int[] {-1}), "-1");
        }
    }

    @Test
    void damagedShardsAreRefused() throws IOException {
        Path file = write(SMALL, new int[] {1, 2, 3});
        byte[] good = Files.readAllBytes(file);
        Files.write(file, Arrays.copyOf(good, good.length - 2));
        Failing.data(() -> TokenShards.open(dir, SMALL), file, "truncated");
        Files.write(file, Arrays.copyOf(good, 40));
        Failing.data(() -> TokenShards.open(dir, SMALL), file, "no token shard");
        int[][] damages = {{0, 'X'}, {8, 2}, {12, 3}, {16, 4}, {23, 0x40}, {23, 0xff}, {40, 1}};
        for (int[] d : damages) {
            byte[] bad = good.clone();
            bad[d[0]] = (byte) d[1];
            Files.write(file, bad);
            Failing.data(() -> TokenShards.open(dir, SMALL), file);
        }
        byte[] bad = good.clone();
        bad[67] = 2; // the second id becomes 514
        Files.write(file, bad);
        try (TokenShards t = TokenShards.open(dir, SMALL)) {
            Failing.data(() -> t.read(new int[3], 0, 3, 0), file, "token 1 is id 514", "below 300");
        }
    }

    @Test
    void anUnfinishedShardDoesNotExist() throws IOException {
        try (TokenShards.Writer out = TokenShards.Writer.open(dir, SMALL)) {
            out.append(new int[] {1, 2, 3});
        }
        assertEquals(List.of(), AtomicFileTest.names(dir));
        Failing.data(() -> TokenShards.open(dir, SMALL), dir, "no token shards");
        Failing.data(() -> TokenShards.open(dir.resolve("none"), SMALL), dir.resolve("none"));
        Path file = Files.writeString(dir.resolve("file"), "");
        Failing.io(() -> TokenShards.Writer.open(file.resolve("tokens"), SMALL), file);
    }
}
