package dev.qat.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelDir;
import dev.qat.data.HfModelWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Backend;
import dev.qat.tensor.Param;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;

/** Small random models in Hugging Face directories, loud enough that quantizing them hurts. */
public final class TinyModels {
    private TinyModels() {}

    /** Writes a llama of 2 blocks, hidden 64, MLP 128, 4 heads over 2, 64 tokens of vocabulary. */
    public static Path write(Path dir, Backend backend, long seed) {
        ObjectNode c = new ObjectMapper().createObjectNode();
        c.put("model_type", "llama").put("vocab_size", 64).put("hidden_size", 64).put("intermediate_size", 128).put("num_hidden_layers", 2)
                .put("num_attention_heads", 4).put("num_key_value_heads", 2).put("rms_norm_eps", 1e-5).put("max_position_embeddings", 64)
                .put("tie_word_embeddings", true).put("bos_token_id", 1).put("eos_token_id", 2);
        Model m = new Model(ModelConfig.of(c, "tiny"), backend.memory());
        m.randomize(seed);
        List<Slot> slots = m.params().stream().map(p -> new Slot(p.name(), StoredType.F32, p.value().dims())).toList();
        try (HfModelWriter out = HfModelWriter.open(dir, c, slots, HfModelWriter.Options.DEFAULT); Arena arena = Arena.ofConfined()) {
            for (Param p : m.params()) {
                MemorySegment v = m.values(p, arena);
                boolean loud = p.kind() == Param.Kind.WEIGHT || p.kind() == Param.Kind.EMBEDDING;
                if (loud) for (long i = 0; i < p.value().size(); i++) v.setAtIndex(ValueLayout.JAVA_FLOAT, i, 8 * v.getAtIndex(ValueLayout.JAVA_FLOAT, i));
                out.writeFloats(p.name(), v);
            }
            out.finish();
        }
        return dir;
    }

    public static Model load(Path dir, Backend backend) {
        try (HfModelDir d = HfModelDir.open(dir)) {
            return Model.load(d, backend.memory());
        }
    }
}
