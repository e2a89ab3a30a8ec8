package dev.qat.export;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.Gguf;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The tokenizer.json and tokenizer_config.json that a GGUF file's metadata amount to; the inverse of {@link GgufTokenizer}.
 *
 * <p>SentencePiece's pieces have scores and no merges: every way to cut a piece into two others is a merge, of pieces with higher
 * scores first. Source: llama.cpp's {@code llama-vocab.cpp}; the tokenizer.json files of the models themselves.
 */
final class GgufTokenizerIn {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String AT = "tokenizer.ggml.";
    private static final int LONGEST = 1024; // every cut of a piece is looked at
    private static final int UNKNOWN = 2, CONTROL = 3, MINE = 4, UNUSED = 5;

    private record Merge(String left, String right, float score, int first, int second) {}

    private final Gguf file;
    private final List<String> tokens;
    private final int[] types;
    private final boolean pieces;
    private final Map<String, Integer> ids = new HashMap<>();

    private GgufTokenizerIn(Gguf file) {
        this.file = file;
        String model = file.hasKey(AT + "model") ? file.text(AT + "model") : "missing";
        if (!model.equals("llama") && !model.equals("gpt2")) throw unreadable("is of kind '" + model + "', expected llama or gpt2");
        this.pieces = model.equals("llama");
        this.tokens = file.texts(AT + "tokens");
        this.types = file.hasKey(AT + "token_type") ? file.wholes(AT + "token_type") : new int[tokens.size()];
        if (types.length != tokens.size()) throw unreadable("has %d tokens and %d types".formatted(tokens.size(), types.length));
        for (int i = 0; i < types.length; i++) if (types[i] != UNUSED) ids.putIfAbsent(tokens.get(i), i);
    }

    /** tokenizer.json and tokenizer_config.json. */
    static Map<String, ObjectNode> of(Gguf file) {
        GgufTokenizerIn in = new GgufTokenizerIn(file);
        return Map.of("tokenizer.json", in.tokenizer(), "tokenizer_config.json", in.config());
    }

    private Fail unreadable(String why) {
        return Fail.data("%s: its tokenizer %s; put the model's tokenizer.json beside it", file.file(), why);
    }

    private ObjectNode tokenizer() {
        ObjectNode root = JSON.createObjectNode().put("version", "1.0");
        root.putNull("truncation").putNull("padding");
        ArrayNode added = root.putArray("added_tokens");
        for (int i = 0; i < types.length; i++) {
            if (types[i] < UNKNOWN || types[i] > MINE) continue;
            added.addObject().put("id", i).put("content", tokens.get(i)).put("single_word", false).put("lstrip", false).put("rstrip", false)
                    .put("normalized", false).put("special", types[i] != MINE);
        }
        ObjectNode model = JSON.createObjectNode().put("type", "BPE");
        if (pieces) pieces(root, model);
        else bytes(root, model);
        ObjectNode vocab = model.putObject("vocab");
        for (int i = 0; i < types.length; i++) if (types[i] != UNUSED && ids.get(tokens.get(i)) == i) vocab.put(tokens.get(i), i);
        root.putNull("post_processor");
        root.set("model", model);
        return root;
    }

    private void pieces(ObjectNode root, ObjectNode model) {
        ArrayNode steps = root.putObject("normalizer").put("type", "Sequence").putArray("normalizers");
        if (flag("add_space_prefix", true)) steps.addObject().put("type", "Prepend").put("prepend", "\u2581");
        steps.addObject().put("type", "Replace").put("content", "\u2581").putObject("pattern").put("String", " ");
        root.putNull("pre_tokenizer");
        ArrayNode back = root.putObject("decoder").put("type", "Sequence").putArray("decoders");
        back.addObject().put("type", "Replace").put("content", " ").putObject("pattern").put("String", "\u2581");
        back.addObject().put("type", "ByteFallback");
        back.addObject().put("type", "Fuse");
        if (flag("add_space_prefix", true)) back.addObject().put("type", "Strip").put("content", " ").put("start", 1).put("stop", 0);
        text("unknown").ifPresent(u -> model.put("unk_token", u));
        model.put("fuse_unk", true).put("byte_fallback", true).put("ignore_merges", false);
        ArrayNode merges = model.putArray("merges");
        for (Merge m : merges()) merges.add(m.left + " " + m.right);
    }

    private List<Merge> merges() {
        float[] scores = file.numbers(AT + "scores");
        if (scores.length != tokens.size()) throw unreadable("has %d tokens and %d scores".formatted(tokens.size(), scores.length));
        List<Merge> all = new ArrayList<>();
        for (int i = 0; i < types.length; i++) {
            String piece = tokens.get(i);
            if (types[i] > 1) continue;
            if (piece.length() > LONGEST) throw unreadable("has a piece of %d characters, expected at most %d".formatted(piece.length(), LONGEST));
            for (int cut = 1; cut < piece.length(); cut++) {
                Integer left = ids.get(piece.substring(0, cut)), right = ids.get(piece.substring(cut));
                if (left != null && right != null) all.add(new Merge(piece.substring(0, cut), piece.substring(cut), scores[i], left, right));
            }
        }
        all.sort(Comparator.comparingDouble((Merge m) -> -m.score).thenComparingInt(Merge::first).thenComparingInt(Merge::second));
        return all;
    }

    private void bytes(ObjectNode root, ObjectNode model) {
        List<String> merges = file.texts(AT + "merges");
        String pre = file.hasKey(AT + "pre") ? file.text(AT + "pre") : "default";
        // without merges every splitting gives the same ids
        ObjectNode split = PreTokenizers.split(pre).orElseGet(() -> merges.isEmpty() ? PreTokenizers.bytes(false) : null);
        if (split == null) throw unreadable("splits text by the rule '" + pre + "', which is not known here");
        if (pre.contains("qwen")) root.putObject("normalizer").put("type", "NFC");
        else root.putNull("normalizer");
        root.set("pre_tokenizer", split);
        root.set("decoder", PreTokenizers.bytes(true));
        model.putNull("unk_token").put("byte_fallback", false).put("fuse_unk", false).put("ignore_merges", pre.equals("llama-bpe") || pre.equals("tekken"));
        ArrayNode list = model.putArray("merges");
        merges.forEach(list::add);
    }

    /** Files that do not say whether a text begins with BOS mean what llama.cpp does then. */
    private ObjectNode config() {
        String pre = file.hasKey(AT + "pre") ? file.text(AT + "pre") : "default";
        ObjectNode c = JSON.createObjectNode().put("add_bos_token", flag("add_bos_token", pieces || pre.equals("llama-bpe") || pre.equals("tekken")));
        text("bos").ifPresentOrElse(t -> c.put("bos_token", t), () -> c.putNull("bos_token"));
        text("eos").ifPresent(t -> c.put("eos_token", t));
        text("unknown").ifPresent(t -> c.put("unk_token", t));
        text("padding").ifPresent(t -> c.put("pad_token", t));
        if (file.hasKey("tokenizer.chat_template")) c.put("chat_template", file.text("tokenizer.chat_template"));
        return c;
    }

    private boolean flag(String key, boolean otherwise) {
        return file.hasKey(AT + key) ? file.flag(AT + key) : otherwise;
    }

    /** The token with a role. */
    private Optional<String> text(String role) {
        String key = AT + role + "_token_id";
        if (!file.hasKey(key)) return Optional.empty();
        long id = file.whole(key);
        if (id < 0 || id >= tokens.size()) throw unreadable("has no token %d, which %s names".formatted(id, key));
        return types[(int) id] == UNUSED ? Optional.empty() : Optional.of(tokens.get((int) id));
    }
}
