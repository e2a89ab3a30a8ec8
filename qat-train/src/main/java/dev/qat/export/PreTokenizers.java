package dev.qat.export;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.Tokenizer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * llama.cpp's name for how a byte-level tokenizer splits text, found as its own converter finds it: SHA-256 over the ids of one
 * fixed text, written as Python writes a list; and for the most common names, how Hugging Face spells the same splitting.
 * Source: the table in llama.cpp's {@code conversion/base.py}; the models' own tokenizer.json.
 */
final class PreTokenizers {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String TEXT = "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n\uD83D\uDE80 (normal) \uD83D\uDE36\u200d\uD83C\uDF2B\uFE0F "
            + "(multiple emojis concatenated) \u2705 \uD83E\uDD99\uD83E\uDD99 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 "
            + "\u1780\u17b6\u1793\u17cb\u178f\u17c2\u1796\u17b7\u179f\u17c1\u179f\u17a2\u17b6\u1785\uD83D\uDE01 ?\u6211\u60f3\u5728apple\u5de5\u4f5c1314151\u5929\uff5e "
            + "------======= \u043d\u0435\u0449\u043e \u043d\u0430 \u0411\u044a\u043b\u0433\u0430\u0440\u0441\u043a\u0438 ''''''```````\"\"\"\"......!!!!!!?????? "
            + "I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL";

    private static final Map<String, String> NAMES = Map.of(
            "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5", "llama-bpe",
            "d353350c764d8c3b39c763113960e4fb4919bea5fbf208a0e3b22e8469dc7406", "llama4",
            "c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d", "smaug-bpe",
            "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454", "gpt-2",
            "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea", "qwen2",
            "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5", "deepseek-r1-qwen",
            "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249", "smollm",
            "63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e", "tekken",
            "049ecf7629871e3041641907f3de7c733e4dbfdc736f57d882ba0b0845599754", "deepseek-llm",
            "347715f544604f9118bb75ed199f68779f423cabb20db6de6f31b908d04d7821", "deepseek-coder");

    private static final String WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}%s| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    private static final String LETTERS = "[\\p{Lm}\\p{Lo}\\p{M}";
    private static final String TEKKEN = "[^\\r\\n\\p{L}\\p{N}]?" + LETTERS + "\\p{Lu}\\p{Lt}]*" + LETTERS + "\\p{Ll}]+|[^\\r\\n\\p{L}\\p{N}]?" + LETTERS + "\\p{Lu}\\p{Lt}]+"
            + LETTERS + "\\p{Ll}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

    private PreTokenizers() {}

    /** The pre_tokenizer of a tokenizer.json that splits text as llama.cpp's {@code name} does; empty where it is not known here. */
    static Optional<ObjectNode> split(String name) {
        return switch (name) {
            case "llama-bpe", "smaug-bpe" -> Optional.of(pattern(WORDS.formatted("{1,3}")));
            case "qwen2", "deepseek-r1-qwen" -> Optional.of(pattern(WORDS.formatted("")));
            case "tekken" -> Optional.of(pattern(TEKKEN));
            case "gpt-2" -> Optional.of(bytes(true));
            case "smollm" -> Optional.of(sequence(JSON.createObjectNode().put("type", "Digits").put("individual_digits", true), bytes(true)));
            default -> Optional.empty();
        };
    }

    /** Text as bytes, each a visible character; split before by GPT-2's pattern, or not at all. */
    static ObjectNode bytes(boolean words) {
        return JSON.createObjectNode().put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true).put("use_regex", words);
    }

    private static ObjectNode pattern(String regex) {
        ObjectNode split = JSON.createObjectNode().put("type", "Split").put("behavior", "Isolated").put("invert", false);
        split.putObject("pattern").put("Regex", regex);
        return sequence(split, bytes(false));
    }

    private static ObjectNode sequence(ObjectNode... steps) {
        ObjectNode all = JSON.createObjectNode().put("type", "Sequence");
        all.putArray("pretokenizers").addAll(List.of(steps));
        return all;
    }

    /** The name, or "default" for a tokenizer llama.cpp does not know. */
    static String of(Tokenizer tokenizer) {
        // Hugging Face's encode puts BOS first only where the template says so; both hashes are unique, so both are tried.
        String plain = hash(tokenizer.encode(TEXT)), with = hash(tokenizer.encodeWithBos(TEXT));
        return NAMES.getOrDefault(plain, NAMES.getOrDefault(with, "default"));
    }

    private static String hash(int[] ids) {
        try {
            byte[] text = Arrays.toString(ids).getBytes(StandardCharsets.UTF_8);
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
