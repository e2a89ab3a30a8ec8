package dev.qat.data;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.tensor.Fail;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The pieces of a tokenizer.json by id, and which of them begin and end a text. */
final class TokenizerVocabulary {
    // Far above any real vocabulary; a damaged id must not make us allocate gigabytes.
    private static final int MAX_ID = 1 << 24;

    private final Path file;
    private String[] tokens = new String[1024];
    private int size;

    TokenizerVocabulary(Path file, JsonNode root) {
        this.file = file;
        JsonNode vocab = root.path("model").path("vocab");
        if (vocab.isObject()) {
            for (Map.Entry<String, JsonNode> e : vocab.properties()) add(e.getKey(), e.getValue());
        } else if (vocab.isArray()) { // Unigram: [[piece, score], ..], the id is the place in the list
            for (JsonNode pair : vocab) add(pair.path(0).asText(), Json.MAPPER.getNodeFactory().numberNode(size));
        } else {
            throw Fail.data("%s: has no model.vocab, so it is no tokenizer.json; restore the original file", file);
        }
        for (JsonNode added : root.path("added_tokens")) add(added.path("content").asText(), added.path("id"));
    }

    private void add(String token, JsonNode id) {
        if (!id.isInt() || id.intValue() < 0 || id.intValue() > MAX_ID) {
            throw Fail.data("%s: token '%s' has id %s, expected a whole number from 0 to %d; restore the original file",
                    file, token, id, MAX_ID);
        }
        int i = id.intValue();
        if (i >= tokens.length) tokens = Arrays.copyOf(tokens, Math.max(i + 1, 2 * tokens.length));
        tokens[i] = token;
        size = Math.max(size, i + 1);
    }

    int size() {
        return size;
    }

    String token(int id) {
        if (id < 0 || id >= size) throw Fail.data("%s: has no token %d, expected 0 to %d", file, id, size - 1);
        return tokens[id] == null ? "" : tokens[id];
    }

    /** An explicit null in tokenizer_config.json means "none" (Qwen), whatever config.json repeats from habit. */
    int bos(JsonNode config, JsonNode root, SpecialIds declared) {
        if (config.has("bos_token")) return named(config.get("bos_token"));
        int template = templateStart(root.path("post_processor"));
        return template >= 0 ? template : declared.bos();
    }

    int[] eos(JsonNode config, SpecialIds declared) {
        if (declared.eos().length > 0) return declared.eos();
        int named = named(config.path("eos_token"));
        return named < 0 ? new int[0] : new int[] {named};
    }

    /** The id of a token given as text or as {@code {"content": text}}; −1 for null or nothing. */
    private int named(JsonNode token) {
        String text = token.isObject() ? token.path("content").asText(null) : token.asText(null);
        if (text == null || token.isNull()) return -1;
        for (int i = 0; i < size; i++) if (text.equals(tokens[i])) return i;
        throw Fail.data("%s: has no token '%s', which tokenizer_config.json beside it names; restore the original files", file, text);
    }

    /** The id of the special token that TemplateProcessing puts first, possibly inside a Sequence; −1 if none. */
    private int templateStart(JsonNode processor) {
        List<JsonNode> all = new ArrayList<>(List.of(processor));
        processor.path("processors").forEach(all::add);
        for (JsonNode p : all) {
            JsonNode first = p.path("single").path(0).path("SpecialToken").path("id");
            if (p.path("type").asText().equals("TemplateProcessing") && first.isTextual()) return named(first);
        }
        return -1;
    }
}
