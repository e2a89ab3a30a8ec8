package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelDir;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Ranges;
import dev.qat.model.TokenRounding;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.tensor.ShapeMemory;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Predicate;
import java.util.stream.Stream;

/** What a config and the tensors beside it say together. */
final class Configs {
    private static final int WIDEST = 1 << 24;
    static final String EMBEDDING = "model.embed_tokens.weight", HEAD = "lm_head.weight";

    private Configs() {}

    /** The config; embedding and head are tied where only one of them is stored. */
    static ModelConfig of(HfModelDir dir) {
        String origin = dir.dir().resolve("config.json").toString();
        ModelConfig c = ModelConfig.of(plain(dir), origin);
        refuseHostile(c, dir.names().size(), origin);
        return with(c, c.context(), c.tied() || !dir.has(HEAD) || !dir.has(EMBEDDING));
    }

    /** A copy of config.json, without quantization_config: our readers know what it means. */
    static ObjectNode plain(HfModelDir dir) {
        ObjectNode json = dir.config().deepCopy();
        json.remove("quantization_config");
        return json;
    }

    /** The directory, where it holds a tokenizer. */
    static Optional<Path> tokenizer(HfModelDir dir) {
        return Files.isRegularFile(dir.dir().resolve("tokenizer.json")) ? Optional.of(dir.dir()) : Optional.empty();
    }

    /** A hostile config must not make us build more layers than there are tensors, or wider ones than any model has. */
    static void refuseHostile(ModelConfig c, int tensors, String origin) {
        if (c.layers() > tensors) throw Fail.data("%s: %d layers, but there are only %d tensors; config and weights belong to different models", origin, c.layers(), tensors);
        long widest = Math.max(Math.max((long) c.H() * c.D(), (long) c.K() * c.D()), Math.max(Math.max(c.V(), c.C()), c.F()));
        if (widest > WIDEST || c.D() < 2) throw Fail.data("%s: a matrix of %d rows with heads of %d, expected at most %d and at least 2", origin, widest, c.D(), WIDEST);
    }

    /** A tensor that nobody reads would change what the model computes; a bias of zeros, which some quantizers write, does not. */
    static void refuseLeftovers(HfModelDir dir, Predicate<String> known) {
        for (String name : dir.names()) {
            boolean read = known.test(name) || name.equals(EMBEDDING) || name.equals(HEAD) || name.endsWith(".rotary_emb.inv_freq");
            if (read || name.endsWith(".bias") && zeros(dir, name)) continue;
            throw Fail.data("%s: the weights hold %s, for which this config.json has no place; is a key missing there (attention_bias, mlp_bias), or model_type wrong?", dir.dir(), name);
        }
    }

    private static boolean zeros(HfModelDir dir, String name) {
        MemorySegment bytes = dir.bytes(name);
        for (long i = 0; i < bytes.byteSize(); i++) if (bytes.get(ValueLayout.JAVA_BYTE, i) != 0) return false;
        return true;
    }

    private static ModelConfig with(ModelConfig c, int context, boolean tied) {
        return new ModelConfig(c.type(), c.V(), c.C(), c.F(), c.layers(), c.H(), c.K(), c.D(), c.eps(), c.rope(), context, tied, c.qkvBias(), c.outBias(), c.mlpBias(), c.qkNorm(), c.online());
    }

    /** The same with a bias on every linear of attention or of the MLP, as config.json counts them. */
    static ModelConfig withBiases(ModelConfig c, boolean attention, boolean mlp) {
        return new ModelConfig(c.type(), c.V(), c.C(), c.F(), c.layers(), c.H(), c.K(), c.D(), c.eps(), c.rope(), c.context(), c.tied(),
                c.qkvBias() || attention, c.outBias() || attention, c.mlpBias() || mlp, c.qkNorm(), c.online());
    }

    /** An engine that reads this format knows nothing of rotations and scales in the forward pass. */
    static void refuseOnline(ModelConfig c, String target) {
        if (c.online().equals(ModelConfig.Online.NONE)) return;
        throw Fail.usage("%s: this model %s while it computes, which no other engine does. Take target hf, or rotate without online and fpt-local without down and dynamic.",
                target, c.online().down() > 0 ? "turns down_proj's input" : c.online().across() > 0 ? "turns o_proj's input" : c.online().heads() > 0 ? "turns queries and keys" : "scales what o_proj and down_proj read");
    }

    /** What to tell of activations, keys and values that the model rounds, since no other engine does.  @param kept whether the file says that it does */
    static List<String> rounding(JsonNode config, boolean kept) {
        String kind = kept ? "config.json says how activations, keys and values are rounded (%s); this engine follows it, others compute with them unrounded"
                : "activations, keys and values were rounded (%s), which this file does not say: whoever runs it computes with them unrounded";
        return Stream.of(TokenRounding.KEY, Ranges.KEY).filter(config::hasNonNull).map(kind::formatted).toList();
    }

    /** Every tensor's name and shape, in the order of the forward pass. */
    static Map<String, long[]> shapes(ModelConfig config) {
        Map<String, long[]> shapes = new LinkedHashMap<>();
        ModelConfig brief = with(config, 1, config.tied()); // its table of rotations would only cost time
        for (Param p : new Model(brief, new ShapeMemory(64)).params()) shapes.put(p.name(), p.value().dims());
        return shapes;
    }

    /** The name under which a tensor is stored: a tied matrix may have either. */
    static String stored(HfModelDir dir, String name) {
        return name.equals(EMBEDDING) && !dir.has(EMBEDDING) ? HEAD : name;
    }

    /** The linear whose weight this is; empty for any other tensor. */
    static String linear(String tensor) {
        return tensor.endsWith("_proj.weight") ? tensor.substring(0, tensor.length() - ".weight".length()) : "";
    }
}
