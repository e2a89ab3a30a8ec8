package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.data.GgufValue;
import dev.qat.data.Tokenizer;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A tokenizer.json as llama.cpp wants it: "llama" (SentencePiece: pieces with scores, bytes as fallback) or "gpt2" (byte-level
 * BPE with merges).
 *
 * <p>SentencePiece joins the neighbours whose union scores highest; a tokenizer.json lists merges in just that order, so a
 * piece's score is minus the rank of the first merge that makes it. Token types: 1 normal, 2 unknown, 3 control, 4 user
 * defined, 5 unused, 6 byte. Source: llama.cpp's gguf-py and {@code llama-vocab.cpp}.
 */
final class GgufTokenizer {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Path dir;
    private final JsonNode root, model, config;
    private final Tokenizer tokenizer;
    private final Map<String, GgufValue> out = new LinkedHashMap<>();

    private GgufTokenizer(Path dir, Tokenizer tokenizer) {
        this.dir = dir;
        this.tokenizer = tokenizer;
        this.root = json("tokenizer.json");
        this.model = root.path("model");
        this.config = Files.isRegularFile(dir.resolve("tokenizer_config.json")) ? json("tokenizer_config.json") : JSON.createObjectNode();
    }

    static Map<String, GgufValue> metadata(Path dir, int vocabulary, List<String> remarks) {
        try (Tokenizer tokenizer = Tokenizer.of(dir)) {
            tokenizer.vocabulary(vocabulary); // refuses a model that has too few rows
            return new GgufTokenizer(dir, tokenizer).build(vocabulary, remarks);
        }
    }

    private JsonNode json(String name) {
        try {
            return JSON.readTree(Files.readAllBytes(dir.resolve(name)));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", dir.resolve(name), e.getMessage());
        }
    }

    private Map<String, GgufValue> build(int vocabulary, List<String> remarks) {
        if (!model.path("type").asText("BPE").equals("BPE")) {
            throw Fail.data("%s: the tokenizer is a %s model, and only BPE can be written to GGUF yet", dir.resolve("tokenizer.json"), model.path("type").asText());
        }
        boolean pieces = model.path("byte_fallback").asBoolean(false);
        out.put("tokenizer.ggml.model", GgufValue.of(pieces ? "llama" : "gpt2"));
        String pre = pieces ? "default" : PreTokenizers.of(tokenizer);
        out.put("tokenizer.ggml.pre", GgufValue.of(pre));
        if (!pieces && pre.equals("default") && !model.path("merges").isEmpty()) {
            remarks.add("the tokenizer is none that llama.cpp knows by its hash: it will split text by its default rule; compare token ids before use");
        }
        tokens(vocabulary, pieces);
        if (pieces) out.put("tokenizer.ggml.add_space_prefix", GgufValue.of(spaceFirst()));
        else out.put("tokenizer.ggml.merges", GgufValue.of(merges()));
        specials();
        return out;
    }

    /** Whether a text gets a space before it: a Prepend normalizer, or Metaspace with a scheme other than never. */
    private boolean spaceFirst() {
        List<JsonNode> steps = new ArrayList<>(List.of(root.path("normalizer"), root.path("pre_tokenizer")));
        root.path("normalizer").path("normalizers").forEach(steps::add);
        root.path("pre_tokenizer").path("pretokenizers").forEach(steps::add);
        return steps.stream().anyMatch(s -> s.path("type").asText().equals("Prepend")
                || s.path("type").asText().equals("Metaspace") && !s.path("prepend_scheme").asText("always").equals("never") && s.path("add_prefix_space").asBoolean(true));
    }

    private List<String> merges() {
        List<String> merges = new ArrayList<>();
        for (JsonNode m : model.path("merges")) merges.add(m.isArray() ? m.path(0).asText() + " " + m.path(1).asText() : m.asText());
        return merges;
    }

    private void tokens(int vocabulary, boolean pieces) {
        Map<String, Integer> added = new HashMap<>();
        for (JsonNode a : root.path("added_tokens")) added.put(a.path("content").asText(), a.path("special").asBoolean() ? 3 : 4);
        String unknown = model.path("unk_token").asText("");
        if (!unknown.isEmpty()) added.put(unknown, 2);
        Map<String, Integer> ranks = ranks();
        List<String> tokens = new ArrayList<>();
        float[] scores = new float[vocabulary];
        int[] types = new int[vocabulary];
        for (int i = 0; i < vocabulary; i++) {
            String token = i < tokenizer.size() ? tokenizer.token(i) : "";
            boolean unused = token.isEmpty();
            tokens.add(unused ? "[PAD" + i + "]" : token);
            types[i] = unused ? 5 : added.getOrDefault(token, pieces && token.matches("<0x[0-9A-F]{2}>") ? 6 : 1);
            scores[i] = types[i] == 1 ? -ranks.getOrDefault(token, ranks.size()) : 0;
        }
        out.put("tokenizer.ggml.tokens", GgufValue.of(tokens));
        if (pieces) out.put("tokenizer.ggml.scores", GgufValue.of(scores));
        out.put("tokenizer.ggml.token_type", GgufValue.of(types));
    }

    /** For each piece that merging makes, the rank of its first merge. */
    private Map<String, Integer> ranks() {
        Map<String, Integer> ranks = new HashMap<>();
        int rank = 0;
        for (String merge : merges()) ranks.putIfAbsent(merge.replace(" ", ""), ++rank);
        return ranks;
    }

    private void specials() {
        boolean begins = tokenizer.encodeWithBos("a").length > tokenizer.encode("a").length;
        if (tokenizer.bos() >= 0) out.put("tokenizer.ggml.bos_token_id", GgufValue.of(tokenizer.bos()));
        if (tokenizer.eos().length > 0) out.put("tokenizer.ggml.eos_token_id", GgufValue.of(eos()));
        id("unknown", model.path("unk_token"));
        JsonNode pad = config.path("pad_token");
        id("padding", pad.isObject() ? pad.path("content") : pad);
        out.put("tokenizer.ggml.add_bos_token", GgufValue.of(begins));
        out.put("tokenizer.ggml.add_eos_token", GgufValue.of(false));
        template();
    }

    /** Of several, the one tokenizer_config.json names, else the first. */
    private int eos() {
        JsonNode named = config.path("eos_token");
        String text = named.isObject() ? named.path("content").asText("") : named.asText("");
        for (int id : tokenizer.eos()) if (id < tokenizer.size() && tokenizer.token(id).equals(text)) return id;
        return tokenizer.eos()[0];
    }

    private void id(String what, JsonNode token) {
        if (!token.isTextual()) return;
        for (int i = 0; i < tokenizer.size(); i++) {
            if (!tokenizer.token(i).equals(token.asText())) continue;
            out.put("tokenizer.ggml." + what + "_token_id", GgufValue.of(i));
            return;
        }
    }

    private void template() {
        JsonNode template = config.path("chat_template");
        Path file = dir.resolve("chat_template.jinja");
        try {
            if (template.isTextual()) out.put("tokenizer.chat_template", GgufValue.of(template.asText()));
            else if (Files.isRegularFile(file)) out.put("tokenizer.chat_template", GgufValue.of(Files.readString(file, StandardCharsets.UTF_8)));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", file, e.getMessage());
        }
    }
}
