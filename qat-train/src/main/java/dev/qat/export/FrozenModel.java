package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelDir;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** A run's student and the codes of its linears, as they lie in a device's memory. */
public final class FrozenModel implements Frozen {
    private final Model model;
    private final HfModelDir source;
    private final Map<String, String> notes;
    private final Map<String, PackedWeight> packed = new LinkedHashMap<>();
    private final Map<String, Param> params = new LinkedHashMap<>();
    private final ModelConfig config;

    /** @param source whose config.json and tokenizer the model has */
    public FrozenModel(Model model, Map<Linear, PackedWeight> codes, HfModelDir source, Map<String, String> notes) {
        this.model = model;
        this.source = source;
        this.notes = Map.copyOf(notes);
        codes.forEach((linear, p) -> packed.put(linear.name, p));
        for (Param p : model.params()) params.put(p.name(), p);
        this.config = withBiases();
    }

    /** A bias that a method adds makes a place for biases in every linear of the same kind, as config.json counts kinds. */
    private ModelConfig withBiases() {
        Set<String> declared = Configs.shapes(model.config).keySet();
        boolean attention = false, mlp = false;
        for (Linear l : model.linears()) {
            boolean merged = l.bias != null && !declared.contains(l.bias.name());
            boolean added = merged || packed.containsKey(l.name) && packed.get(l.name).bias() != null;
            attention |= added && l.name.contains(".self_attn.");
            mlp |= added && l.name.contains(".mlp.");
        }
        return attention || mlp ? Configs.withBiases(model.config, attention, mlp) : model.config;
    }

    @Override
    public ModelConfig config() {
        return config;
    }

    @Override
    public ObjectNode configJson() {
        ObjectNode json = Configs.plain(source);
        if (config.outBias()) json.put("attention_bias", true);
        if (config.mlpBias()) json.put("mlp_bias", true);
        config.online().write(json);
        return json.put("tie_word_embeddings", config.tied());
    }

    @Override
    public Optional<Path> tokenizer() {
        return Optional.of(source.dir());
    }

    @Override
    public Map<String, String> notes() {
        return notes;
    }

    @Override
    public List<String> quantized() {
        return List.copyOf(packed.keySet());
    }

    @Override
    public Lattice lattice(String linear) {
        Fail.unless(packed.containsKey(linear), "%s has no codes", linear);
        return Lattice.of(packed.get(linear), model.memory());
    }

    @Override
    public void read(String name, MemorySegment floats) {
        Param p = params.get(name);
        String linear = name.substring(0, Math.max(0, name.lastIndexOf('.')));
        if (name.endsWith(".weight") && packed.containsKey(linear)) {
            Lattice l = lattice(linear);
            Frozen.weights(floats, l, l.step());
            return;
        }
        if (p == null) floats.fill((byte) 0); // a bias that only config.json's kinds make room for
        else model.values(p, floats);
        if (name.endsWith(".bias") && packed.containsKey(linear) && packed.get(linear).bias() != null) {
            float[] more = model.memory().floats(packed.get(linear).bias());
            for (int i = 0; i < more.length; i++) {
                floats.setAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i, floats.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i) + more[i]);
            }
        }
    }

    @Override
    public void close() {}
}
