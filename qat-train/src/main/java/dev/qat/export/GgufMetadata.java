package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.data.GgufValue;
import dev.qat.model.ModelConfig;
import dev.qat.model.ModelConfig.RopeScaling;
import dev.qat.tensor.Fail;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A GGUF file's metadata: the architecture's numbers, what made the model, the tokenizer. Source: llama.cpp's gguf-py. */
final class GgufMetadata {
    private GgufMetadata() {}

    static Map<String, GgufValue> of(Frozen model, GgmlType target, List<String> remarks) {
        ModelConfig c = model.config();
        String arch = GgufNames.architecture(c);
        Map<String, GgufValue> m = new LinkedHashMap<>();
        m.put("general.architecture", GgufValue.of(arch));
        m.put("general.type", GgufValue.of("model"));
        m.put("general.name", GgufValue.of(model.notes().getOrDefault("name", c.type())));
        m.put("general.file_type", GgufValue.of(fileType(target)));
        m.put("general.quantization_version", GgufValue.of(2));
        model.notes().forEach((key, text) -> m.put("qat." + key, GgufValue.of(text)));
        m.put(arch + ".vocab_size", GgufValue.of(c.V()));
        m.put(arch + ".context_length", GgufValue.of(c.context()));
        m.put(arch + ".embedding_length", GgufValue.of(c.C()));
        m.put(arch + ".block_count", GgufValue.of(c.layers()));
        m.put(arch + ".feed_forward_length", GgufValue.of(c.F()));
        m.put(arch + ".attention.head_count", GgufValue.of(c.H()));
        m.put(arch + ".attention.head_count_kv", GgufValue.of(c.K()));
        m.put(arch + ".attention.key_length", GgufValue.of(c.D()));
        m.put(arch + ".attention.value_length", GgufValue.of(c.D()));
        m.put(arch + ".attention.layer_norm_rms_epsilon", GgufValue.of(c.eps()));
        m.put(arch + ".rope.dimension_count", GgufValue.of(c.D()));
        m.put(arch + ".rope.freq_base", GgufValue.of((float) c.rope().theta()));
        if (c.rope().kind().equals("linear")) {
            m.put(arch + ".rope.scaling.type", GgufValue.of("linear"));
            m.put(arch + ".rope.scaling.factor", GgufValue.of((float) c.rope().factor()));
        }
        var dir = model.tokenizer().orElseThrow(() -> Fail.data("the model has no tokenizer.json, which a GGUF file must carry; copy it beside config.json"));
        m.putAll(GgufTokenizer.metadata(dir, c.V(), remarks));
        return m;
    }

    /** llama.cpp's number for "mostly this type". */
    private static int fileType(GgmlType target) {
        return switch (target) {
            case F32 -> 0;
            case F16 -> 1;
            case Q4_0 -> 2;
            case Q4_1 -> 3;
            case Q8_0 -> 7;
            case Q2_K -> 10;
            case Q4_K -> 15;
            case Q6_K -> 18;
            case BF16 -> 32;
            case TQ1_0 -> 36;
            case TQ2_0 -> 37;
            case Q1_0 -> 40;
            case Q2_0 -> 1; // none of its own is known to us; the number only informs
        };
    }

    /**
     * By how much Llama 3's scaling divides each frequency, or null where it is another.   (D/2)
     *
     * <p>1 for wavelengths shorter than original / high, factor for those longer than original / low, between them
     * 1 / ((1 − s) / factor + s) with s = (original / wavelength − low) / (high − low).
     */
    static float[] ropeFactors(ModelConfig c) {
        RopeScaling r = c.rope();
        if (!r.kind().equals("llama3")) return null;
        float[] factors = new float[c.D() / 2];
        for (int i = 0; i < factors.length; i++) {
            double wave = 2 * Math.PI * Math.pow(r.theta(), 2.0 * i / c.D());
            double s = (r.original() / wave - r.low()) / (r.high() - r.low());
            factors[i] = (float) (wave < r.original() / r.high() ? 1 : wave > r.original() / r.low() ? r.factor() : 1 / ((1 - s) / r.factor() + s));
        }
        return factors;
    }
}
