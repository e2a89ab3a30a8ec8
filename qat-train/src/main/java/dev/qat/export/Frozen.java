package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Ranges;
import dev.qat.model.TokenRounding;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A finished model as exporters write it and readers give it back, one tensor at a time: a run's student, a directory, a GGUF
 * file. Tensors have Hugging Face names; {@code P.weight} of a quantized linear P also has a {@link Lattice}.
 */
public interface Frozen extends AutoCloseable {
    ModelConfig config();

    /** A copy of config.json, without quantization_config. */
    ObjectNode configJson();

    /** The directory that holds the tokenizer's files; empty where there is none. */
    Optional<Path> tokenizer();

    /** What made this model: method, recipe, versions. */
    Map<String, String> notes();

    /** The linears (their names without {@code .weight}) that have codes. */
    List<String> quantized();

    /** What a user should know of linears that came without codes; empty where there is nothing to say. */
    default String remark() {
        return "";
    }

    /** The codes of a quantized linear, copied to the host. */
    Lattice lattice(String linear);

    /** A tensor's values; of a quantized weight (code − zero) · step.   floats (count) */
    void read(String name, MemorySegment floats);

    @Override
    void close();

    /** Every tensor's name and shape, in the order of the forward pass. */
    default Map<String, long[]> shapes() {
        return Configs.shapes(config());
    }

    /** The model in a device's memory: plain weights, and tokens and tensors rounded where the config has them rounded. */
    default Model load(Memory memory) {
        Model m = new Model(config(), memory);
        for (Param p : m.params()) source().read(memory, p);
        TokenRounding.install(m, configJson(), "config.json");
        Ranges.install(m, configJson(), "config.json");
        return m;
    }

    /** Where a model can have its values from, in the type each parameter has, for as long as this is open. */
    default Model.Source source() {
        return Model.Source.of((p, floats) -> read(p.name(), floats));
    }

    /** Writes a lattice's weights with the steps given.   floats (O · I) */
    static void weights(MemorySegment floats, Lattice l, float[] steps) {
        Fail.unless(floats.byteSize() == 4L * l.rows() * l.cols(), "%s has %d weights, asked for %d", l.name(), (long) l.rows() * l.cols(), floats.byteSize() / 4);
        float[] row = new float[l.cols()];
        for (int r = 0; r < l.rows(); r++) {
            l.weights(row, r, steps);
            MemorySegment.copy(row, 0, floats, ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * r * l.cols(), row.length);
        }
    }
}
