package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.model.ModelConfig.RopeScaling;
import dev.qat.tensor.Fail;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** config.json files as the models' makers publish them: read, or refused with the key that stands in the way. */
class ModelConfigTest {
    @Test
    void llama1And2() {
        ModelConfig one = Tiny.config("""
                {"architectures": ["LLaMAForCausalLM"], "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu", "hidden_size": 4096,
                 "intermediate_size": 11008, "initializer_range": 0.02, "max_sequence_length": 2048, "model_type": "llama", "num_attention_heads": 32,
                 "num_hidden_layers": 32, "pad_token_id": -1, "rms_norm_eps": 1e-06, "torch_dtype": "float16", "use_cache": true, "vocab_size": 32000}""");
        assertEquals(new ModelConfig("llama", 32000, 4096, 11008, 32, 32, 32, 128, 1e-6f, new RopeScaling(10000, "default", 1, 1, 1, 0), 2048,
                false, false, false, false, false), one);
        assertEquals(6_738_415_616L, one.parameters());
        ModelConfig seventy = Tiny.config("""
                {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "max_position_embeddings": 4096, "num_attention_heads": 64,
                 "num_hidden_layers": 80, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
                 "tie_word_embeddings": false, "vocab_size": 32000}""");
        assertEquals(8, seventy.K());
        assertEquals(128, seventy.D());
        assertEquals(68_976_648_192L, seventy.parameters());
    }

    @Test
    void llama3() {
        String of31 = """
                {"model_type": "llama", "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
                 "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
                 "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                 "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": false, "vocab_size": 128256}""";
        assertEquals(new RopeScaling(500000, "llama3", 8, 1, 4, 8192), Tiny.config(of31).rope());
        assertEquals(8_030_261_248L, Tiny.config(of31).parameters());
        // Llama 3.2 1B: tied, another factor, head_dim spelled out
        ModelConfig small = Tiny.config(Tiny.with(of31, """
                {"head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "tie_word_embeddings": true, "rope_scaling":
                 {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}}"""));
        assertTrue(small.tied());
        assertEquals(32, small.rope().factor());
        assertEquals(1_235_814_400L, small.parameters());
        // transformers 5 moves theta beside the scaling
        assertEquals(new RopeScaling(500000, "llama3", 8, 1, 4, 8192), Tiny.config(Tiny.with(Tiny.LLAMA, """
                {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                 "original_max_position_embeddings": 8192}}""")).rope());
    }

    @Test
    void mistralAndSmolLm() {
        ModelConfig mistral = Tiny.config("""
                {"model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
                 "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
                 "sliding_window": null, "tie_word_embeddings": false, "vocab_size": 32768}""");
        assertEquals(7_248_023_552L, mistral.parameters());
        assertEquals(1e6, mistral.rope().theta());
        assertFalse(mistral.qkvBias() || mistral.outBias() || mistral.mlpBias() || mistral.qkNorm() || mistral.tied());
        ModelConfig smol = Tiny.config("""
                {"model_type": "llama", "attention_bias": false, "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": true,
                 "max_position_embeddings": 8192, "mlp_bias": false, "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
                 "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
                 "vocab_size": 49152}""");
        assertTrue(smol.tied());
        assertEquals(134_515_008L, smol.parameters());
    }

    @Test
    void qwen2HasBiasesOnQueriesKeysAndValuesOnly() {
        ModelConfig c = Tiny.config("""
                {"model_type": "qwen2", "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
                 "max_position_embeddings": 32768, "max_window_layers": 21, "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
                 "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "use_mrope": false,
                 "use_sliding_window": false, "vocab_size": 151936}""");
        assertTrue(c.qkvBias() && c.tied());
        assertFalse(c.outBias() || c.mlpBias() || c.qkNorm());
        assertEquals(64, c.D());
    }

    @Test
    void qwen3HasNormsOnHeadsOfTheirOwnSize() {
        ModelConfig c = Tiny.config("""
                {"model_type": "qwen3", "attention_bias": false, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
                 "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
                 "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
                 "use_sliding_window": false, "vocab_size": 151936}""");
        assertTrue(c.qkNorm() && c.tied());
        assertFalse(c.qkvBias() || c.outBias());
        assertEquals(128, c.D(), "not hidden_size / heads = 64");
        assertEquals(596_049_920L, c.parameters());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "{'model_type': 'gemma2'}                                    | model_type is 'gemma2'",
        "{'model_type': null}                                        | model_type is ''",
        "{'hidden_act': 'gelu'}                                      | hidden_act = gelu",
        "{'num_local_experts': 8}                                    | num_local_experts = 8",
        "{'partial_rotary_factor': 0.5}                              | partial_rotary_factor = 0.5",
        "{'clip_qkv': 8.0}                                           | clip_qkv = 8.0",
        "{'model_type': 'qwen2', 'use_sliding_window': true}         | use_sliding_window = true",
        "{'model_type': 'mistral', 'sliding_window': 8}              | sliding_window = 8",
        "{'layer_types': ['full_attention', 'sliding_attention']}    | layer_types has 'sliding_attention'",
        "{'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}}      | rope_scaling type 'yarn'",
        "{'quantization_config': {'quant_method': 'gptq', 'bits': 4}}| quantization_config says 'gptq'",
        "{'hidden_size': 26}                                         | hidden_size = 26 is no multiple of num_attention_heads = 4",
        "{'num_key_value_heads': 3}                                  | 4 attention heads over 3 key/value heads",
        "{'hidden_size': null}                                       | hidden_size = null, expected a positive whole number",
        "{'vocab_size': -1}                                          | vocab_size = -1, expected a positive whole number",
        "{'head_dim': 7}                                             | head_dim even"})
    void anythingElseIsRefusedWithItsKey(String change, String sentence) {
        Fail fail = assertThrows(Fail.class, () -> Tiny.config(Tiny.with(Tiny.LLAMA, change.replace('\'', '"'))));
        assertEquals(Fail.DATA, fail.code());
        assertTrue(fail.getMessage().startsWith("config.json: ") && fail.getMessage().contains(sentence), fail.getMessage());
    }

    @Test
    void harmlessKeysWithTheirUsualValuesAreRead() {
        Tiny.config(Tiny.with(Tiny.LLAMA, "{\"partial_rotary_factor\": 1, \"clip_qkv\": null, \"use_sliding_window\": false, \"quantization_config\": null}"));
        assertEquals(2, Tiny.config(Tiny.with(Tiny.LLAMA, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}}")).rope().factor());
    }

    /** Llama 3.1's angles: of 64, 29 keep theirs, 6 are blended and 29 divided by 8. The numbers were made with 40 decimal digits in Python. */
    @Test
    void llama3ScalesOnlyTheLongWavelengths() {
        RopeScaling s = new RopeScaling(500000, "llama3", 8, 1, 4, 8192);
        double[][] worked = {{0, 1}, {10, 1.286873734326505148e-1}, {28, 3.211445994752591019e-3}, {29, 2.166570763503358609e-3}, {31, 8.567514129196320811e-4},
                {34, 1.785078127679964185e-4}, {35, 9.556212353964683020e-5}, {63, 3.068925988914511089e-7}};
        for (double[] w : worked) assertEquals(w[1], Rope.frequency(s, (int) w[0], 128), 1e-14 * w[1], "frequency " + (int) w[0]);
        assertEquals(1.29054792820926381e-3, Rope.frequency(new RopeScaling(500000, "llama3", 32, 1, 4, 8192), 15, 64), 1e-16, "Llama 3.2 1B");
        int[] kinds = new int[3];
        for (int i = 0; i < 64; i++) {
            double f = Math.pow(500000, -2.0 * i / 128), wavelength = 2 * Math.PI / f, blend = (8192 / wavelength - 1) / (4 - 1);
            // the divisors that llama.cpp's rope_freqs tensor holds
            double divisor = wavelength < 8192 / 4.0 ? 1 : wavelength > 8192 ? 8 : 1 / ((1 - blend) / 8 + blend);
            assertEquals(f / divisor, Rope.frequency(s, i, 128), 1e-12 * f);
            kinds[divisor == 1 ? 0 : divisor == 8 ? 2 : 1]++;
        }
        assertEquals("[29, 6, 29]", Arrays.toString(kinds));
    }

    @Test
    void theTableHoldsCosinesThenSines() {
        RopeScaling s = new RopeScaling(100, "linear", 2, 1, 1, 0);
        float[] table = Rope.table(s, 5, 4);
        assertEquals(2 * 5 * 2, table.length);
        assertEquals((float) Math.cos(3 * 0.05), table[3 * 2 + 1], "position 3, pair 1: 100^(-2/4) / 2 = 0.05");
        assertEquals((float) Math.sin(3 * 0.5), table[(5 + 3) * 2]);
    }
}
