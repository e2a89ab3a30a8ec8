package dev.qat.data;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

/**
 * The smallest honest tokenizer: one token per UTF-8 byte, id = the byte's value, then {@code <s>} 256 and {@code </s>} 257.
 *
 * <p>Written as a Hugging Face tokenizer.json: a BPE without merges over the 256 symbols of GPT-2's byte alphabet. It needs
 * no training and round-trips any text. A model may pad its vocabulary beyond {@link #SIZE}; the file does not list padding.
 */
public final class ByteLevelTokenizer {
    public static final int BOS = 256, EOS = 257, SIZE = 258;

    private ByteLevelTokenizer() {}

    /** The text of tokenizer.json. */
    public static String json() {
        ObjectNode root = Json.MAPPER.createObjectNode().put("version", "1.0");
        root.putNull("truncation").putNull("padding");
        ArrayNode added = root.putArray("added_tokens");
        added.add(special(BOS, "<s>")).add(special(EOS, "</s>"));
        root.putNull("normalizer");
        root.set("pre_tokenizer", byteLevel());
        root.set("post_processor", startWithBos());
        root.set("decoder", byteLevel());
        ObjectNode model = root.putObject("model").put("type", "BPE");
        model.putNull("dropout").putNull("unk_token").putNull("continuing_subword_prefix").putNull("end_of_word_suffix");
        model.put("fuse_unk", false).put("byte_fallback", false).put("ignore_merges", false);
        ObjectNode vocab = model.putObject("vocab");
        for (int b = 0; b < 256; b++) vocab.put(Character.toString(symbol(b)), b);
        vocab.put("<s>", BOS).put("</s>", EOS);
        model.putArray("merges");
        return Json.pretty(root);
    }

    /** The text of the tokenizer_config.json that goes with it. */
    public static String config(int maxLength) {
        return Json.pretty(Json.MAPPER.createObjectNode().put("tokenizer_class", "PreTrainedTokenizerFast")
                .put("bos_token", "<s>").put("eos_token", "</s>").put("add_bos_token", true)
                .put("clean_up_tokenization_spaces", false).put("model_max_length", maxLength));
    }

    /**
     * GPT-2's printable symbol of a byte: itself where Latin-1 prints it, else the next free one from U+0100 on.
     *
     * <p>Printable: 33..126, 161..172, 174..255; so 0..32 become U+0100.., 127..160 follow, 173 is last.
     */
    static int symbol(int b) {
        if (b <= 32) return 256 + b;
        if (b >= 127 && b <= 160) return 256 + 33 + b - 127;
        return b == 173 ? 256 + 67 : b;
    }

    private static ObjectNode special(int id, String content) {
        return Json.MAPPER.createObjectNode().put("id", id).put("content", content).put("single_word", false)
                .put("lstrip", false).put("rstrip", false).put("normalized", false).put("special", true);
    }

    private static ObjectNode byteLevel() {
        return Json.MAPPER.createObjectNode().put("type", "ByteLevel").put("add_prefix_space", false)
                .put("trim_offsets", true).put("use_regex", false);
    }

    /** Other programs that ask for special tokens get one BOS, as {@link Tokenizer#encodeWithBos} gives. */
    private static ObjectNode startWithBos() {
        ObjectNode template = Json.MAPPER.createObjectNode().put("type", "TemplateProcessing");
        ObjectNode bos = Json.MAPPER.createObjectNode();
        bos.putObject("SpecialToken").put("id", "<s>").put("type_id", 0);
        ObjectNode a = Json.MAPPER.createObjectNode(), b = Json.MAPPER.createObjectNode();
        a.putObject("Sequence").put("id", "A").put("type_id", 0);
        b.putObject("Sequence").put("id", "B").put("type_id", 1);
        template.putArray("single").add(bos).add(a);
        template.putArray("pair").add(bos.deepCopy()).add(a.deepCopy()).add(b);
        ObjectNode tokens = template.putObject("special_tokens").putObject("<s>").put("id", "<s>");
        tokens.putArray("ids").add(BOS);
        tokens.putArray("tokens").add("<s>");
        return template;
    }
}
