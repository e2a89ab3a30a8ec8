package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.ByteLevelTokenizer;
import dev.qat.data.GgufValue;
import dev.qat.data.Tokenizer;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Tokenizers of both kinds as llama.cpp wants them. */
class GgufTokenizerTest {
    private static final String PIECES = """
            {"version": "1.0", "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
              {"id": 1, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
              {"id": 7, "content": "<mine>", "special": false, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
             "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
             "pre_tokenizer": null, "post_processor": null, "decoder": null,
             "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
              "vocab": {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "▁": 3, "a": 4, "b": 5, "ab": 6, "▁ab": 8}, "merges": ["a b", "▁ ab"]}}""";

    @TempDir
    Path dir;

    private Map<String, GgufValue> metadata(int vocabulary, List<String> remarks) {
        return GgufTokenizer.metadata(dir, vocabulary, remarks);
    }

    @Test
    void piecesGetScoresFromTheirMerges() throws IOException {
        Files.writeString(dir.resolve("tokenizer.json"), PIECES);
        Files.writeString(dir.resolve("tokenizer_config.json"), "{\"bos_token\": \"<s>\", \"eos_token\": \"<unk>\", \"chat_template\": \"{{ x }}\"}");
        var m = metadata(10, new ArrayList<>());
        assertEquals("llama", m.get("tokenizer.ggml.model").value());
        assertEquals(List.of("<unk>", "<s>", "<0x0A>", "▁", "a", "b", "ab", "<mine>", "▁ab", "[PAD9]"), m.get("tokenizer.ggml.tokens").value());
        assertArrayEquals(new int[] {2, 3, 6, 1, 1, 1, 1, 4, 1, 5}, (int[]) m.get("tokenizer.ggml.token_type").value());
        assertArrayEquals(new float[] {0, 0, 0, -2, -2, -2, -1, 0, -2, 0}, (float[]) m.get("tokenizer.ggml.scores").value());
        assertEquals(true, m.get("tokenizer.ggml.add_space_prefix").value());
        assertEquals(true, m.get("tokenizer.ggml.add_bos_token").value());
        assertEquals(1, m.get("tokenizer.ggml.bos_token_id").value());
        assertEquals(0, m.get("tokenizer.ggml.unknown_token_id").value());
        assertEquals("{{ x }}", m.get("tokenizer.chat_template").value());
        assertFalse(m.containsKey("tokenizer.ggml.merges"));
        Failing.with(Fail.DATA, () -> metadata(8, new ArrayList<>()), "vocab_size is 8");
    }

    @Test
    void bytesBecomeAGpt2WithoutMerges() throws IOException {
        Files.writeString(dir.resolve("tokenizer.json"), ByteLevelTokenizer.json());
        Files.writeString(dir.resolve("tokenizer_config.json"), ByteLevelTokenizer.config(64));
        List<String> remarks = new ArrayList<>();
        var m = metadata(258, remarks);
        assertEquals("gpt2", m.get("tokenizer.ggml.model").value());
        assertEquals("default", m.get("tokenizer.ggml.pre").value());
        assertEquals(List.of(), m.get("tokenizer.ggml.merges").value());
        assertEquals(List.of(), remarks); // without merges every splitting gives the same ids
        assertEquals(257, m.get("tokenizer.ggml.eos_token_id").value());
        assertEquals(3, ((int[]) m.get("tokenizer.ggml.token_type").value())[256]);
    }

    @Test
    void otherModelsAreRefused() throws IOException {
        Files.writeString(dir.resolve("tokenizer.json"), PIECES.replace("\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true", "\"type\": \"WordLevel\", \"unk_token\": \"<unk>\"")
                .replace(", \"merges\": [\"a b\", \"▁ ab\"]", "").replace("\"byte_fallback\": true,", ""));
        Failing.with(Fail.DATA, () -> metadata(10, new ArrayList<>()), "WordLevel", "only BPE");
    }

    /** GPT-2's vocabulary and merges as a tokenizer.json; a merge may be a pair or a text with a space. */
    static void gpt2(Path to, boolean pairs) throws IOException {
        Path source = Oracle.asset("tokenizers/gpt2");
        ObjectMapper json = new ObjectMapper();
        ObjectNode root = (ObjectNode) json.readTree(ByteLevelTokenizer.json());
        root.putArray("added_tokens").addObject().put("id", 50256).put("content", "<|endoftext|>").put("single_word", false)
                .put("lstrip", false).put("rstrip", false).put("normalized", false).put("special", true);
        root.putNull("post_processor");
        ((ObjectNode) root.get("pre_tokenizer")).put("use_regex", true);
        ObjectNode model = (ObjectNode) root.get("model");
        model.set("vocab", json.readTree(source.resolve("vocab.json").toFile()));
        var merges = model.putArray("merges");
        for (String line : Files.readAllLines(source.resolve("merges.txt"))) {
            if (line.isBlank()) continue;
            if (pairs) merges.addArray().add(line.split(" ")[0]).add(line.split(" ")[1]);
            else merges.add(line);
        }
        json.writeValue(to.toFile(), root);
    }

    @Test
    void aKnownSplitterIsFoundByItsHash() throws IOException {
        for (boolean pairs : new boolean[] {true, false}) {
            gpt2(dir.resolve("tokenizer.json"), pairs);
            List<String> remarks = new ArrayList<>();
            var m = metadata(50257, remarks);
            assertEquals("gpt-2", m.get("tokenizer.ggml.pre").value());
            assertEquals("Ġ t", ((List<?>) m.get("tokenizer.ggml.merges").value()).getFirst());
            assertEquals(List.of(), remarks);
        }
        Files.writeString(dir.resolve("tokenizer_config.json"), "{\"bos_token\": \"<|endoftext|>\"}"); // added or not, the name is found
        try (Tokenizer t = Tokenizer.of(dir)) {
            assertEquals("gpt-2", PreTokenizers.of(t));
        }
    }

    @Test
    void anUnknownSplitterIsRemarkedOn() throws IOException {
        gpt2(dir.resolve("tokenizer.json"), false);
        Path file = dir.resolve("tokenizer.json");
        ObjectMapper json = new ObjectMapper();
        ObjectNode root = (ObjectNode) json.readTree(file.toFile());
        ((ObjectNode) root.get("pre_tokenizer")).put("use_regex", false);
        json.writeValue(file.toFile(), root);
        List<String> remarks = new ArrayList<>();
        assertEquals("default", metadata(50257, remarks).get("tokenizer.ggml.pre").value());
        assertTrue(remarks.getFirst().contains("compare token ids"), remarks.toString());
    }
}
