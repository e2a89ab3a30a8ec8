package dev.qat.export;

import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What GGUF calls a model's architecture and tensors, and in which order it wants the rows of q and k.
 *
 * <p>llama.cpp's "llama" rotates neighbouring pairs, Hugging Face the two halves of a head; so rows of q and k (and their
 * biases) move from (head, half, i) to (head, i, half). qwen2 and qwen3 rotate halves and keep their rows. Source: llama.cpp's
 * {@code gguf-py/gguf/constants.py} and its conversion of llama models.
 */
final class GgufNames {
    private static final Map<String, String> PARTS = parts();

    private GgufNames() {}

    private static Map<String, String> parts() {
        Map<String, String> m = new LinkedHashMap<>();
        for (String p : new String[] {"q", "k", "v"}) m.put("self_attn." + p + "_proj", "attn_" + p);
        m.put("self_attn.o_proj", "attn_output");
        m.put("self_attn.q_norm", "attn_q_norm");
        m.put("self_attn.k_norm", "attn_k_norm");
        for (String p : new String[] {"gate", "up", "down"}) m.put("mlp." + p + "_proj", "ffn_" + p);
        m.put("input_layernorm", "attn_norm");
        m.put("post_attention_layernorm", "ffn_norm");
        return m;
    }

    /** GGUF's architecture for a config's model_type. */
    static String architecture(ModelConfig c) {
        String name = switch (c.type()) {
            case "qwen2", "qwen3" -> c.type();
            default -> "llama";
        };
        if (!name.equals("llama") && (c.outBias() || c.mlpBias())) {
            throw Fail.usage("llama.cpp's %s has no biases on o, gate, up and down, and this model has; write hf instead", name);
        }
        if (name.equals("qwen3") && c.qkvBias()) throw Fail.usage("llama.cpp's qwen3 has no biases on q, k and v, and this model has; write hf instead");
        return name;
    }

    /** GGUF's name of a tensor with a Hugging Face name. */
    static String of(String name) {
        switch (name) {
            case Configs.EMBEDDING:
                return "token_embd.weight";
            case Configs.HEAD:
                return "output.weight";
            case "model.norm.weight":
                return "output_norm.weight";
            default:
                String[] s = name.split("\\.", 4); // model, layers, N, rest
                int end = s.length == 4 ? s[3].lastIndexOf('.') : -1;
                String part = end < 0 ? null : PARTS.get(s[3].substring(0, end));
                Fail.unless(part != null && s[1].equals("layers"), "GGUF has no name for %s", name);
                return "blk." + s[2] + "." + part + s[3].substring(end);
        }
    }

    /** The heads whose rows are turned over in this tensor, or 0 where rows stay. */
    static int turned(ModelConfig c, String name) {
        if (!architecture(c).equals("llama")) return 0;
        return name.contains(".q_proj.") ? c.H() : name.contains(".k_proj.") ? c.K() : 0;
    }

    /** Which row of Hugging Face's is GGUF's row j, in a tensor of so many rows with {@code turned} heads. */
    static int source(int j, int rows, int turned) {
        if (turned == 0) return j;
        int d = rows / turned, head = j / d, rest = j % d;
        return head * d + rest % 2 * (d / 2) + rest / 2;
    }
}
