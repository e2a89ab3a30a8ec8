package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenizerTest {
    @TempDir
    Path dir;

    private void golden(String name, Path tokenizer) {
        JsonNode golden = Json.object(Shared.asset("tokenizers/golden_tokenizations.json"));
        JsonNode expected = golden.get("tokenizers").get(name);
        try (Tokenizer t = Tokenizer.of(tokenizer)) {
            for (int i = 0; i < golden.get("strings").size(); i++) {
                String text = golden.get("strings").get(i).asText(), where = name + " string " + i + " '" + text + "'";
                int[] ids = Json.MAPPER.convertValue(expected.get("ids").get(i), int[].class);
                assertArrayEquals(ids, t.encodeWithBos(text), where);
                int[] bare = t.bos() < 0 ? ids : Arrays.copyOfRange(ids, 1, ids.length);
                assertArrayEquals(bare, t.encode(text), where);
                assertEquals(expected.get("decoded").get(i).asText(), t.decode(ids), where);
            }
        }
    }

    @Test
    void goldenOfTheThreeModels() {
        for (String name : List.of("stories260K", "tinystories656K", "stories3M")) golden(name, Shared.asset(name));
    }

    @Test
    void goldenOfLlama2() {
        golden("llama2", Shared.asset("tokenizers/llama2/tokenizer.json.gz"));
    }

    @Test
    void goldenOfQwen3() {
        golden("qwen3", Shared.asset("tokenizers/qwen3/tokenizer.json.gz"));
    }

    @Test
    void goldenOfGpt2() throws IOException {
        golden("gpt2", gpt2());
    }

    /** A tokenizer.json from GPT-2's two old files: byte-level BPE with GPT-2's own splitting pattern. */
    private Path gpt2() throws IOException {
        ObjectNode root = Json.MAPPER.createObjectNode();
        ObjectNode end = root.putArray("added_tokens").addObject().put("id", 50256).put("content", "<|endoftext|>").put("special", true);
        for (String flag : List.of("single_word", "lstrip", "rstrip", "normalized")) end.put(flag, false);
        for (String part : List.of("pre_tokenizer", "decoder")) {
            root.putObject(part).put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true).put("use_regex", true);
        }
        ObjectNode model = root.putObject("model").put("type", "BPE");
        model.set("vocab", Json.object(Shared.asset("tokenizers/gpt2/vocab.json")));
        ArrayNode merges = model.putArray("merges");
        Files.readAllLines(Shared.asset("tokenizers/gpt2/merges.txt")).stream().filter(l -> !l.isBlank()).forEach(merges::add);
        return Files.writeString(dir.resolve("gpt2.json"), root.toString());
    }

    @Test
    void aMegabyteIsOneTextNeitherTruncatedNorPadded() throws IOException {
        String text = Files.readString(Shared.asset("text/tinyshakespeare.txt"));
        assertTrue(text.length() > 1_000_000);
        for (String name : List.of("stories3M", "tokenizers/qwen3/tokenizer.json.gz")) {
            try (Tokenizer t = Tokenizer.of(Shared.asset(name))) {
                int[] ids = t.encode(text);
                assertTrue(ids.length > 200_000, name + " gave " + ids.length);
                assertEquals(text, t.decode(ids), name);
            }
        }
    }

    /** Even a tokenizer.json that asks for truncation and padding gets neither. */
    @Test
    void truncationAndPaddingInTheFileAreIgnored() throws IOException {
        ObjectNode root = (ObjectNode) Json.MAPPER.readTree(ByteLevelTokenizer.json());
        root.putObject("truncation").put("direction", "Right").put("max_length", 8).put("strategy", "LongestFirst").put("stride", 0);
        root.putObject("padding").put("direction", "Right").put("pad_id", 0).put("pad_type_id", 0).put("pad_token", "<s>")
                .putObject("strategy").put("Fixed", 64);
        Path file = Files.writeString(dir.resolve("tokenizer.json"), root.toString());
        try (Tokenizer t = Tokenizer.of(file)) {
            assertEquals(3, t.encode("abc").length);
            assertEquals(1000, t.encode("a".repeat(1000)).length);
        }
    }

    @Test
    void specialIdsSizeAndTokens() {
        try (Tokenizer t = Tokenizer.of(Shared.asset("stories3M"))) {
            assertEquals(1, t.bos());
            assertArrayEquals(new int[] {1, 2}, t.eos());
            assertEquals(4096, t.size());
            assertEquals("<s>", t.token(1));
            assertEquals("▁the", t.token(t.encode("the")[0]));
            Failing.data(() -> t.token(4096), "tokenizer.json", "4096");
            Failing.data(() -> t.token(-1), "tokenizer.json");
            Failing.data(() -> t.decode(new int[] {-1}), "tokenizer.json");
        }
        try (Tokenizer t = Tokenizer.of(Shared.asset("tokenizers/qwen3/tokenizer.json.gz"))) {
            assertEquals(-1, t.bos());
            assertEquals(0, t.eos().length);
            assertEquals(151_669, t.size());
        }
    }

    private void write(String name, String content) throws IOException {
        Files.writeString(dir.resolve(name), content);
    }

    @Test
    void whoDecidesAboutBosAndEos() throws IOException {
        write("tokenizer.json", ByteLevelTokenizer.json());
        assertBos(256, true); // the file's own template
        write("config.json", "{\"bos_token_id\": 7, \"eos_token_id\": 8}");
        assertBos(256, true);
        write("tokenizer_config.json", "{\"bos_token\": {\"content\": \"</s>\"}, \"eos_token\": \"</s>\"}");
        assertBos(257, true);
        write("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"add_bos_token\": false}");
        assertBos(256, false);
        write("tokenizer_config.json", "{\"bos_token\": null}");
        assertBos(-1, false);
        write("tokenizer_config.json", "{\"bos_token\": \"<nobody>\"}");
        Failing.data(() -> Tokenizer.of(dir), "tokenizer.json", "<nobody>");
        write("tokenizer_config.json", "{}");
        write("tokenizer.json", ByteLevelTokenizer.json().replace("TemplateProcessing", "ByteLevel"));
        assertBos(7, true); // only config.json speaks
        try (Tokenizer t = Tokenizer.of(dir)) {
            assertArrayEquals(new int[] {8}, t.eos());
        }
    }

    private void assertBos(int bos, boolean added) {
        try (Tokenizer t = Tokenizer.of(dir)) {
            assertEquals(bos, t.bos());
            assertArrayEquals(added ? new int[] {bos, 'a'} : new int[] {'a'}, t.encodeWithBos("a"));
        }
    }

    @Test
    void badTokenizersAreNamed() throws IOException {
        Failing.data(() -> Tokenizer.of(dir), dir.resolve("tokenizer.json"), "no such file", "save_pretrained");
        Map<String, String> bad = Map.of("{", "not valid JSON", "[]", "array", "{}", "no model.vocab",
                "{\"model\":{\"vocab\":{\"a\":-1}}}", "token 'a' has id -1", "{\"model\":{\"vocab\":{\"a\":2000000000}}}", "2000000000",
                "{\"model\":{\"type\":\"Nonsense\",\"vocab\":{\"a\":0}}}", "cannot read");
        for (var e : bad.entrySet()) {
            write("tokenizer.json", e.getKey());
            Failing.data(() -> Tokenizer.of(dir), "tokenizer.json", e.getValue());
        }
        write("tokenizer.json.gz", "not zipped");
        Failing.data(() -> Tokenizer.of(dir.resolve("tokenizer.json.gz")), "tokenizer.json.gz", "damaged gzip");
    }

    @Test
    void brokenCharactersAndUseAfterCloseAreRefused() throws IOException {
        write("tokenizer.json", ByteLevelTokenizer.json());
        Tokenizer t = Tokenizer.of(dir);
        Failing.data(() -> t.encode("ab\ud800c"), "U+D800", "position 2");
        Failing.data(() -> t.encode("\udc00"), "U+DC00");
        assertEquals(4, t.encode("\ud83d\ude00").length);
        t.close();
        t.close();
        assertThrows(Fail.class, () -> t.encode("a"));
        assertThrows(Fail.class, () -> t.decode(new int[] {97}));
    }

    @Test
    void aTokenizerLargerThanItsModelIsRefused() throws IOException {
        write("tokenizer.json", ByteLevelTokenizer.json());
        try (Tokenizer t = Tokenizer.of(dir)) {
            assertEquals(272, t.vocabulary(272).size());
            Failing.data(() -> t.vocabulary(257), "tokenizer.json", "257");
        }
    }

    @Test
    void threadsMayShareOne() throws Exception {
        write("tokenizer.json", ByteLevelTokenizer.json());
        try (Tokenizer t = Tokenizer.of(dir)) {
            long right = IntStream.range(0, 200).parallel()
                    .filter(i -> t.decode(t.encode("text number " + i)).equals("text number " + i)).count();
            assertEquals(200, right);
        }
    }
}
