package dev.qat.model;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.tensor.Param;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;

/** Small random models of every architecture: what config.json says of them, and weights loud enough that every part matters. */
public final class Tiny {
    /** Head size left to hidden_size / heads, nothing beside the matrices and two norms. */
    public static final String LLAMA = """
            {"model_type": "llama", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 32}""";
    /** Every bias a llama can have, and angles of which the scaling changes some. */
    public static final String LLAMA_BIASED = with(LLAMA, """
            {"attention_bias": true, "mlp_bias": true, "rope_theta": 50.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
             "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}""");
    public static final String QWEN2 = with(LLAMA, """
            {"model_type": "qwen2", "tie_word_embeddings": true, "use_sliding_window": false, "sliding_window": 8, "rope_theta": 1000000.0}""");
    /** A head size that is not hidden_size / heads. */
    public static final String QWEN3 = with(LLAMA, """
            {"model_type": "qwen3", "head_dim": 8, "attention_bias": false, "rms_norm_eps": 1e-6, "layer_types": ["full_attention", "full_attention"]}""");

    private Tiny() {}

    /** One of llama, biased, qwen2 and qwen3. */
    public static String named(String config) {
        return switch (config) {
            case "llama" -> LLAMA;
            case "biased" -> LLAMA_BIASED;
            case "qwen2" -> QWEN2;
            case "qwen3" -> QWEN3;
            default -> throw new IllegalArgumentException(config);
        };
    }

    public static ObjectNode json(String text) {
        try {
            return (ObjectNode) new ObjectMapper().readTree(text);
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException(text, e);
        }
    }

    public static String with(String config, String more) {
        return json(config).setAll(json(more)).toString();
    }

    public static ModelConfig config(String text) {
        return ModelConfig.of(json(text), "config.json");
    }

    /** Gains around 1, biases around 0, matrices such that activations keep their size. */
    public static Model model(Backend backend, String config, long seed) {
        Model m = new Model(config(config), backend.memory());
        int tensor = 0;
        for (Param p : m.params()) {
            tensor++;
            float[] values = new float[Math.toIntExact(p.value().size())];
            double scale = p.kind() == Param.Kind.GAIN || p.kind() == Param.Kind.BIAS ? 0.3 : 1 / Math.sqrt(p.value().cols());
            for (int i = 0; i < values.length; i++) values[i] = (float) (scale * Philox.normal(seed, i, tensor, 0) + (p.kind() == Param.Kind.GAIN ? 1 : 0));
            backend.memory().set(p.value(), values);
        }
        return m;
    }

    /** Writes the model as a Hugging Face directory, its parameters under the names that {@code rename} gives (null: left out). */
    public static Path write(Path dir, Model m, ObjectNode config, UnaryOperator<String> rename) {
        List<Param> kept = m.params().stream().filter(p -> rename.apply(p.name()) != null).toList();
        List<Slot> slots = kept.stream().map(p -> new Slot(rename.apply(p.name()), StoredType.F32, p.value().dims())).toList();
        try (HfModelWriter out = HfModelWriter.open(dir, config, slots, HfModelWriter.Options.DEFAULT); Arena arena = Arena.ofConfined()) {
            for (Param p : kept) out.writeFloats(rename.apply(p.name()), m.values(p, arena));
            out.finish();
        }
        return dir;
    }
}
