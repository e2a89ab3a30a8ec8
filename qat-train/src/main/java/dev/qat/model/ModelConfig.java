package dev.qat.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.util.Map;
import java.util.Set;

/**
 * A decoder described by numbers, not by a class: Llama 1 to 3.x, Mistral, SmolLM, Qwen2 and Qwen3 differ only in these.
 *
 * @param C hidden size  @param F MLP hidden size  @param H query heads  @param K key/value heads  @param D head size  @param V vocabulary
 */
public record ModelConfig(String type, int V, int C, int F, int layers, int H, int K, int D, float eps, RopeScaling rope, int context,
                          boolean tied, boolean qkvBias, boolean outBias, boolean mlpBias, boolean qkNorm, Online online) {
    /**
     * Rotary angles θ^(−2i/D), changed by a model's scaling.
     *
     * @param kind default, linear (angles / factor), or llama3 (only the long wavelengths are divided, smoothly)
     */
    public record RopeScaling(double theta, String kind, double factor, double low, double high, double original) {}

    /**
     * What stays in the forward pass, since it cannot be merged: Hadamard rotations, and FPTQuant's S_n (arXiv 2506.04985 §3.1.3).
     * config.json names them under "qat_online", and its model_type ends in "-online", so that an engine which knows nothing of them
     * refuses the model.
     *
     * <p>S_n keeps the residual X of every token at the size that its norm finds, X̃ = s X with s = 1/√(mean X² + ε), and what is added
     * to it too: X̃ + s·u. A bias-free o and down read s times their input, so that one fixed range rounds every token's by the same
     * share of its residual. Of the two equal ways to keep books (X̃ and s from norm to norm, with ε·s² in place of ε; or X, of which s
     * is a function) the second is taken here: nothing but X passes from block to block.
     *
     * @param down    neighbouring channels of down_proj's input that are turned together, whose inverse is in its weight; 0 for none
     * @param heads   the same of every head's queries and keys after rope
     * @param across  neighbouring query heads that are turned together at o_proj's input, whose weight has the inverse
     * @param dynamic whether o_proj and down_proj compute on the residual's scale
     */
    public record Online(int down, int heads, int across, boolean dynamic) {
        public static final Online NONE = new Online(0, 0, 0, false);
        /** What the type of a model with any of this ends in. */
        private static final String SUFFIX = "-online";

        private static Online of(JsonNode c, int F, int D, int H, String origin) {
            JsonNode o = c.path("qat_online");
            int down = o.path("down").asInt(0), heads = o.path("heads").asInt(0), across = o.path("across").asInt(0);
            if (!fits(down, F) || !fits(heads, D) || !fits(across, H)) {
                throw Fail.data("%s: qat_online turns %d of %d channels, %d of a head's %d and %d of %d heads together, expected powers of two that divide them",
                        origin, down, F, heads, D, across, H);
            }
            return new Online(down, heads, across, o.path("dynamic").asBoolean(false));
        }

        private static boolean fits(int size, int channels) {
            return size == 0 || size > 0 && Integer.bitCount(size) == 1 && channels % size == 0;
        }

        /** Says it in a config.json. */
        public void write(ObjectNode json) {
            String type = json.path("model_type").asText();
            if (type.endsWith(SUFFIX)) type = type.substring(0, type.length() - SUFFIX.length());
            json.remove("qat_online");
            json.put("model_type", equals(NONE) ? type : type + SUFFIX);
            if (!equals(NONE)) json.putObject("qat_online").put("down", down).put("heads", heads).put("across", across).put("dynamic", dynamic);
        }
    }

    /** A model that turns and scales nothing on the way. */
    public ModelConfig(String type, int V, int C, int F, int layers, int H, int K, int D, float eps, RopeScaling rope, int context,
                       boolean tied, boolean qkvBias, boolean outBias, boolean mlpBias, boolean qkNorm) {
        this(type, V, C, F, layers, H, K, D, eps, rope, context, tied, qkvBias, outBias, mlpBias, qkNorm, Online.NONE);
    }

    private static final Set<String> TYPES = Set.of("llama", "mistral", "qwen2", "qwen3", "smollm");
    /** Keys whose presence with another value would change what the model computes, and the only value supported. */
    private static final Map<String, String> FIXED = Map.of("hidden_act", "silu", "partial_rotary_factor", "1.0", "clip_qkv", "null",
            "num_experts", "null", "num_local_experts", "null", "use_sliding_window", "false", "logits_scaling", "1.0", "residual_multiplier", "1.0");

    /** Reads a config.json; what this engine cannot compute is refused with the key that says so. */
    public static ModelConfig of(JsonNode c, String origin) {
        String named = c.path("model_type").asText("");
        boolean online = c.hasNonNull("qat_online") && named.endsWith(Online.SUFFIX);
        String type = online ? named.substring(0, named.length() - Online.SUFFIX.length()) : named;
        if (!TYPES.contains(type)) {
            throw Fail.data("%s: model_type is '%s', expected one of %s. Other architectures are not supported yet.", origin, type, TYPES.stream().sorted().toList());
        }
        FIXED.forEach((key, value) -> refuseOther(c, key, value, origin));
        if (c.hasNonNull("quantization_config")) {
            throw Fail.data("%s: quantization_config says '%s': the weights are quantized already. Give the full-precision model.",
                    origin, c.get("quantization_config").path("quant_method").asText("?"));
        }
        for (JsonNode layer : c.path("layer_types")) {
            if (!layer.asText().equals("full_attention")) throw Fail.data("%s: layer_types has '%s', which is not supported, only full_attention", origin, layer.asText());
        }
        int C = whole(c, "hidden_size", origin), H = whole(c, "num_attention_heads", origin);
        int K = c.hasNonNull("num_key_value_heads") ? whole(c, "num_key_value_heads", origin) : H;
        if (!c.hasNonNull("head_dim") && C % H != 0) {
            throw Fail.data("%s: hidden_size = %d is no multiple of num_attention_heads = %d, and there is no head_dim", origin, C, H);
        }
        int D = c.hasNonNull("head_dim") ? whole(c, "head_dim", origin) : C / H;
        if (H % K != 0 || D % 2 != 0) {
            throw Fail.data("%s: %d attention heads over %d key/value heads of %d: heads must be a multiple of key/value heads, head_dim even", origin, H, K, D);
        }
        int context = c.path("max_position_embeddings").asInt(2048);
        if (type.equals("mistral") && c.hasNonNull("sliding_window") && c.get("sliding_window").asInt() < context) {
            throw Fail.data("%s: sliding_window = %d is not supported. Set it to null if sequences stay shorter than that.", origin, c.get("sliding_window").asInt());
        }
        boolean qwen2 = type.equals("qwen2"), attentionBias = c.path("attention_bias").asBoolean(false);
        int F = whole(c, "intermediate_size", origin);
        return new ModelConfig(type, whole(c, "vocab_size", origin), C, F, whole(c, "num_hidden_layers", origin),
                H, K, D, (float) c.path("rms_norm_eps").asDouble(1e-6), rope(c, origin), context, c.path("tie_word_embeddings").asBoolean(false),
                qwen2 || attentionBias, attentionBias && !qwen2, c.path("mlp_bias").asBoolean(false), type.equals("qwen3"),
                online ? Online.of(c, F, D, H, origin) : Online.NONE);
    }

    private static void refuseOther(JsonNode c, String key, String value, String origin) {
        if (!c.hasNonNull(key)) return;
        String got = c.get(key).asText();
        boolean same = got.equals(value) || c.get(key).isNumber() && !value.equals("null") && c.get(key).asDouble() == Double.parseDouble(value);
        if (!same) throw Fail.data("%s: %s = %s is not supported, only %s", origin, key, got, value);
    }

    private static int whole(JsonNode c, String key, String origin) {
        if (!c.path(key).canConvertToInt() || c.get(key).asInt() <= 0) {
            throw Fail.data("%s: %s = %s, expected a positive whole number", origin, key, c.path(key));
        }
        return c.get(key).asInt();
    }

    private static RopeScaling rope(JsonNode c, String origin) {
        JsonNode parameters = c.path("rope_parameters"), s = c.hasNonNull("rope_scaling") ? c.get("rope_scaling") : parameters;
        double theta = c.hasNonNull("rope_theta") ? c.get("rope_theta").asDouble() : parameters.path("rope_theta").asDouble(10000);
        String kind = s.path("rope_type").asText(s.path("type").asText("default"));
        return switch (kind) {
            case "default" -> new RopeScaling(theta, kind, 1, 1, 1, 0);
            case "linear" -> new RopeScaling(theta, kind, s.path("factor").asDouble(1), 1, 1, 0);
            case "llama3" -> new RopeScaling(theta, kind, s.path("factor").asDouble(8), s.path("low_freq_factor").asDouble(1),
                    s.path("high_freq_factor").asDouble(4), s.path("original_max_position_embeddings").asDouble(8192));
            default -> throw Fail.data("%s: rope_scaling type '%s' is not supported, only default, linear and llama3", origin, kind);
        };
    }

    /** The same with head and embedding one matrix, or two. */
    public ModelConfig tied(boolean tied) {
        return new ModelConfig(type, V, C, F, layers, H, K, D, eps, rope, context, tied, qkvBias, outBias, mlpBias, qkNorm, online);
    }

    /** The same with this in its forward pass. */
    public ModelConfig online(Online online) {
        return new ModelConfig(type, V, C, F, layers, H, K, D, eps, rope, context, tied, qkvBias, outBias, mlpBias, qkNorm, online);
    }

    /** Parameters of one block's seven linears. */
    public long blockWeights() {
        return (long) C * D * (2L * H + 2L * K) + 3L * C * F;
    }

    /** All parameters. */
    public long parameters() {
        return layers * (blockWeights() + 2L * C + (qkNorm ? 2L * D : 0)) + (tied ? 1L : 2L) * V * C + C;
    }
}
