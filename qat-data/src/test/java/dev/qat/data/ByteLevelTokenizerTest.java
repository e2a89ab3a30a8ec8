package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ByteLevelTokenizerTest {
    @TempDir
    Path dir;

    private Tokenizer tokenizer() throws IOException {
        Files.writeString(dir.resolve("tokenizer.json"), ByteLevelTokenizer.json());
        Files.writeString(dir.resolve("tokenizer_config.json"), ByteLevelTokenizer.config(512));
        return Tokenizer.of(dir);
    }

    private static int[] utf8(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        int[] ids = new int[bytes.length];
        for (int i = 0; i < ids.length; i++) ids[i] = bytes[i] & 0xff;
        return ids;
    }

    /** Random characters of all planes, half of them ASCII with its control characters. */
    private static String randomText(Random random, int length) {
        StringBuilder s = new StringBuilder();
        while (s.length() < length) {
            int c = random.nextBoolean() ? random.nextInt(128) : random.nextInt(0x110000);
            if (c < 0xd800 || c > 0xdfff) s.appendCodePoint(c);
        }
        return s.toString();
    }

    @Test
    void idsAreTheBytesAndTextRoundTrips() throws IOException {
        try (Tokenizer t = tokenizer()) {
            Random random = new Random(3);
            for (int i = 0; i < 300; i++) {
                String text = randomText(random, random.nextInt(60));
                assertArrayEquals(utf8(text), t.encode(text), text);
                assertEquals(text, t.decode(t.encode(text)));
            }
            for (String text : List.of("", " ", "  a  b ", "\n\r\n\t", "\u0000", "don't I'll", "é e\u0301", "\ufeffx", "👩\u200d👧")) {
                assertArrayEquals(utf8(text), t.encode(text), text);
                assertEquals(text, t.decode(t.encodeWithBos(text)));
            }
            String big = randomText(random, 1_000_000);
            assertArrayEquals(utf8(big), t.encode(big));
        }
    }

    @Test
    void specialTokensFollowTheBytes() throws IOException {
        try (Tokenizer t = tokenizer()) {
            assertEquals(ByteLevelTokenizer.SIZE, t.size());
            assertEquals(ByteLevelTokenizer.BOS, t.bos());
            assertArrayEquals(new int[] {ByteLevelTokenizer.EOS}, t.eos());
            assertArrayEquals(new int[] {256, 'h', 'i'}, t.encodeWithBos("hi"));
            assertArrayEquals(new int[] {'a', 257, 'b'}, t.encode("a</s>b"));
            assertEquals("ab", t.decode(new int[] {256, 'a', 'b', 257}));
            assertEquals("\ufffd", t.decode(new int[] {0xff}));
        }
    }

    @Test
    void theFileIsAByteLevelBpeWithoutMergesOrSplitting() throws IOException {
        JsonNode root = Json.MAPPER.readTree(ByteLevelTokenizer.json());
        assertEquals(Json.MAPPER.readTree("{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"),
                root.get("pre_tokenizer"));
        assertEquals("ByteLevel", root.at("/decoder/type").asText());
        assertEquals("BPE", root.at("/model/type").asText());
        assertEquals(0, root.at("/model/merges").size());
        assertEquals(258, root.at("/model/vocab").size());
    }

    /** The 256 symbols and their bytes as the GPT-2 vocabulary itself has them: its first 256 ids are the bytes in its order. */
    @Test
    void theAlphabetIsGpt2s() {
        JsonNode vocab = Json.object(Shared.asset("tokenizers/gpt2/vocab.json"));
        int next = 0;
        Set<Integer> seen = new HashSet<>();
        for (int[] range : new int[][] {{33, 126}, {161, 172}, {174, 255}, {0, 32}, {127, 160}, {173, 173}}) {
            for (int b = range[0]; b <= range[1]; b++) {
                String symbol = Character.toString(ByteLevelTokenizer.symbol(b));
                assertTrue(seen.add(ByteLevelTokenizer.symbol(b)));
                assertEquals(next++, vocab.get(symbol).asInt(), "byte " + b);
            }
        }
        assertEquals(256, next);
    }
}
