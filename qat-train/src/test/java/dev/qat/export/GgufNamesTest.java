package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Names, row order and rotations of a GGUF file. */
class GgufNamesTest {
    private static ModelConfig config(String type, String more) throws Exception {
        return ModelConfig.of(new ObjectMapper().readTree("{" + more + "\"model_type\": \"" + type + "\", \"hidden_size\": 16, \"intermediate_size\": 8,"
                + "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 5}"), "test");
    }

    @Test
    void everyTensorHasAName() throws Exception {
        Set<String> names = new TreeSet<>();
        for (String name : Configs.shapes(config("qwen3", "")).keySet()) names.add(GgufNames.of(name));
        assertEquals(new TreeSet<>(Set.of("token_embd.weight", "output.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
                "blk.0.attn_output.weight", "blk.0.attn_norm.weight", "blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight", "blk.0.ffn_norm.weight",
                "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight")), names);
        assertEquals("blk.17.attn_k.bias", GgufNames.of("model.layers.17.self_attn.k_proj.bias"));
        Failing.with(Fail.INTERNAL, () -> GgufNames.of("model.layers.0.self_attn.x_proj.weight"), "x_proj");
    }

    @Test
    void rowsOfAHeadInterleaveItsHalves() throws Exception {
        // two heads of four rows: (0 2 1 3)(4 6 5 7)
        assertArrayEquals(new int[] {0, 2, 1, 3, 4, 6, 5, 7}, IntStream.range(0, 8).map(j -> GgufNames.source(j, 8, 2)).toArray());
        ModelConfig llama = config("llama", ""), qwen = config("qwen2", "");
        assertEquals(2, GgufNames.turned(llama, "model.layers.0.self_attn.q_proj.bias"));
        assertEquals(1, GgufNames.turned(config("mistral", ""), "model.layers.0.self_attn.k_proj.weight"));
        assertEquals(0, GgufNames.turned(llama, "model.layers.0.self_attn.v_proj.weight"));
        assertEquals(0, GgufNames.turned(qwen, "model.layers.0.self_attn.q_proj.weight"));
        assertEquals("llama", GgufNames.architecture(config("smollm", "")));
        Failing.with(Fail.USAGE, () -> GgufNames.architecture(config("qwen2", "\"mlp_bias\": true,")), "no biases");
    }

    @Test
    void llama3StretchesOnlyLongWavelengths() throws Exception {
        assertNull(GgufMetadata.ropeFactors(config("llama", "")));
        ModelConfig c = config("llama", "\"head_dim\": 128, \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0,"
                + "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192},");
        float[] f = GgufMetadata.ropeFactors(c);
        assertEquals(64, f.length);
        assertEquals(1, f[0]);
        assertEquals(1, f[28]);        // wavelength 1 955
        assertEquals(8, f[63]);
        // i = 32: wavelength 2π · 500000^(1/2) = 4 442.9, s = (8192/4442.9 − 1)/3 = 0.28129, 1/((1 − s)/8 + s) = 2.6947
        assertEquals(2.6947f, f[32], 2e-3f);
    }
}
