package dev.qat.export;

import dev.qat.data.Tokenizer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;

/**
 * llama.cpp's name for how a byte-level tokenizer splits text, found as its own converter finds it: SHA-256 over the ids of one
 * fixed text, written as Python writes a list. Source: the table in llama.cpp's {@code conversion/base.py}.
 */
final class PreTokenizers {
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

    private PreTokenizers() {}

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
