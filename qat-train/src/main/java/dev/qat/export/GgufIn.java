package dev.qat.export;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.GgmlType;
import dev.qat.data.Gguf;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * A GGUF file, whoever wrote it, under Hugging Face's names and row order. Linears in a type whose blocks are codes of ours
 * ({@link GgufCodes}) have a lattice; everything is also read as weights.
 */
public final class GgufIn implements Frozen {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Gguf file;
    private final ModelConfig config;
    private final ObjectNode json;
    private final Map<String, long[]> shapes;

    private GgufIn(Gguf file) {
        this.file = file;
        this.json = config(file);
        ModelConfig c = ModelConfig.of(json, file.file().toString());
        Configs.refuseHostile(c, file.names().size(), file.file().toString());
        this.config = c;
        checkRope();
        this.shapes = Configs.shapes(config);
        shapes.forEach(this::check);
        Set<String> known = shapes.keySet().stream().map(GgufNames::of).collect(Collectors.toSet());
        for (String name : file.names()) {
            if (known.contains(name) || name.equals(GgufOut.ROPE)) continue;
            throw Fail.data("%s: it holds %s, which a %s as qat knows it does not have; the model is of another kind", file.file(), name, config.type());
        }
    }

    public static GgufIn open(Path path) {
        Gguf file = Gguf.open(path);
        try {
            return new GgufIn(file);
        } catch (RuntimeException e) {
            file.close();
            throw e;
        }
    }

    /** The config.json a file's metadata amounts to. */
    private static ObjectNode config(Gguf f) {
        String arch = f.text("general.architecture");
        if (!List.of("llama", "qwen2", "qwen3").contains(arch)) throw Fail.data("%s: architecture '%s', expected llama, qwen2 or qwen3", f.file(), arch);
        ObjectNode c = JSON.createObjectNode().put("model_type", arch).put("hidden_act", "silu");
        c.putArray("architectures").add(arch.equals("llama") ? "LlamaForCausalLM" : arch.equals("qwen2") ? "Qwen2ForCausalLM" : "Qwen3ForCausalLM");
        long heads = whole(f, arch + ".attention.head_count", -1), width = whole(f, arch + ".embedding_length", -1);
        c.put("hidden_size", width).put("num_attention_heads", heads);
        c.put("intermediate_size", whole(f, arch + ".feed_forward_length", -1)).put("num_hidden_layers", whole(f, arch + ".block_count", -1));
        c.put("num_key_value_heads", whole(f, arch + ".attention.head_count_kv", heads));
        c.put("head_dim", whole(f, arch + ".attention.key_length", width / Math.max(1, heads)));
        c.put("max_position_embeddings", whole(f, arch + ".context_length", 2048));
        c.put("vocab_size", f.entry("token_embd.weight").ne().length == 2 ? f.entry("token_embd.weight").ne()[1] : 0);
        c.put("rms_norm_eps", f.number(arch + ".attention.layer_norm_rms_epsilon"));
        c.put("rope_theta", f.hasKey(arch + ".rope.freq_base") ? f.number(arch + ".rope.freq_base") : 10000);
        for (String id : List.of("bos", "eos")) if (f.hasKey("tokenizer.ggml." + id + "_token_id")) c.put(id + "_token_id", f.whole("tokenizer.ggml." + id + "_token_id"));
        c.put("tie_word_embeddings", !f.has("output.weight"));
        c.put("attention_bias", !arch.equals("qwen2") && (f.has("blk.0.attn_q.bias") || f.has("blk.0.attn_output.bias"))).put("mlp_bias", f.has("blk.0.ffn_gate.bias"));
        rope(f, arch, c);
        return c;
    }

    private static void rope(Gguf f, String arch, ObjectNode c) {
        if (f.has(GgufOut.ROPE)) {
            // the factors do not say how they were made; all Llama 3 models share the rest
            float[] factors = factors(f);
            float largest = 1;
            for (float x : factors) largest = Math.max(largest, x);
            c.putObject("rope_scaling").put("rope_type", "llama3").put("factor", largest).put("low_freq_factor", 1)
                    .put("high_freq_factor", 4).put("original_max_position_embeddings", 8192);
        } else if (f.hasKey(arch + ".rope.scaling.type") && !f.text(arch + ".rope.scaling.type").equals("none")) {
            c.putObject("rope_scaling").put("rope_type", f.text(arch + ".rope.scaling.type")).put("factor", f.number(arch + ".rope.scaling.factor"));
        }
    }

    private static float[] factors(Gguf f) {
        float[] factors = new float[Math.toIntExact(Math.min(f.entry(GgufOut.ROPE).count(), 1 << 16))];
        f.read(GgufOut.ROPE, MemorySegment.ofArray(factors));
        return factors;
    }

    private void checkRope() {
        if (!file.has(GgufOut.ROPE)) return;
        float[] ours = GgufMetadata.ropeFactors(config), theirs = factors(file);
        boolean same = ours.length == theirs.length;
        for (int i = 0; same && i < ours.length; i++) same = Math.abs(ours[i] - theirs[i]) <= 1e-4 * ours[i];
        if (!same) throw Fail.data("%s: %s is not the scaling of Llama 3 models (1, 4, 8192), the only one read from GGUF", file.file(), GgufOut.ROPE);
    }

    private static long whole(Gguf f, String key, long otherwise) {
        if (otherwise >= 0 && !f.hasKey(key)) return otherwise;
        long v = f.whole(key);
        if (v < 1 || v > Integer.MAX_VALUE) throw Fail.data("%s: %s = %d, expected a positive whole number", f.file(), key, v);
        return v;
    }

    private void check(String name, long[] shape) {
        String stored = GgufNames.of(name);
        if (absentBias(stored)) return;
        long[] ne = file.entry(stored).ne(), expected = shape.length == 1 ? shape : new long[] {shape[1], shape[0]};
        if (!Arrays.equals(ne, expected)) {
            throw Fail.data("%s: tensor %s has shape %s, expected %s from the metadata; the file is damaged", file.file(), stored, Arrays.toString(ne), Arrays.toString(expected));
        }
    }

    /** Config.json knows biases by kind; a file may have them on some of a kind's linears only. */
    private boolean absentBias(String stored) {
        return stored.endsWith(".bias") && !file.has(stored);
    }

    @Override
    public ModelConfig config() {
        return config;
    }

    @Override
    public ObjectNode configJson() {
        return json.deepCopy();
    }

    @Override
    public Optional<Path> tokenizer() {
        return Optional.empty();
    }

    @Override
    public Map<String, String> notes() {
        Map<String, String> notes = new LinkedHashMap<>();
        for (String key : file.keys()) if (key.startsWith("qat.")) notes.put(key.substring(4), file.text(key));
        return notes;
    }

    @Override
    public List<String> quantized() {
        return linears().filter(name -> GgufCodes.in(type(name))).map(Configs::linear).toList();
    }

    private Stream<String> linears() {
        return shapes.keySet().stream().filter(name -> !Configs.linear(name).isEmpty());
    }

    @Override
    public String remark() {
        List<String> others = linears().map(this::type).filter(t -> !GgufCodes.in(t) && t != GgmlType.F32 && t != GgmlType.F16 && t != GgmlType.BF16).map(GgmlType::name).toList();
        if (others.isEmpty()) return "";
        return "%d linears are stored as %s, whose steps do not train here: they are decoded".formatted(others.size(), String.join(" and ", new TreeSet<>(others)));
    }

    @Override
    public Lattice lattice(String linear) {
        String name = linear + ".weight";
        return GgufCodes.of(file, GgufNames.of(name), linear, GgufNames.turned(config, name));
    }

    Gguf file() {
        return file;
    }

    /** The type a tensor with a Hugging Face name is stored as. */
    public GgmlType type(String name) {
        return file.entry(GgufNames.of(name)).type();
    }

    @Override
    public void read(String name, MemorySegment floats) {
        String stored = GgufNames.of(name);
        if (absentBias(stored)) {
            floats.fill((byte) 0);
            return;
        }
        int turned = GgufNames.turned(config, name);
        if (turned == 0) {
            file.read(stored, floats);
            return;
        }
        long[] ne = file.entry(stored).ne();
        int rows = Math.toIntExact(ne[ne.length - 1]);
        long width = 4 * (ne.length == 1 ? 1 : ne[0]);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment raw = arena.allocate(floats.byteSize(), 64);
            file.read(stored, raw);
            for (int j = 0; j < rows; j++) MemorySegment.copy(raw, width * j, floats, width * GgufNames.source(j, rows, turned), width);
        }
    }

    @Override
    public void close() {
        file.close();
    }
}
