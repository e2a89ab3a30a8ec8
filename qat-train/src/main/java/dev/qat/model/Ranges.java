package dev.qat.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Static ranges: values that a model rounds on one scale for the whole tensor, found or trained before it was written. It says so in
 * config.json, and whoever loads it computes and decodes the same; blocks in order, a value that is not rounded left out:
 *
 * <pre>
 * "static_quantization": {"scheme": "symmetric per tensor", "blocks": [{"qkv_input": {"bits": 8, "scale": 0.0131, "zero_point": 0}, ..}, ..]}
 * x̂ = scale · clamp(rint(x / scale), −2^(bits−1), 2^(bits−1) − 1)
 * </pre>
 */
public final class Ranges {
    public static final String KEY = "static_quantization";
    private static final String SCHEME = "symmetric per tensor";
    private static final List<String> INPUTS = List.of("qkv_input", "o_input", "gate_up_input", "down_input");

    private Ranges() {}

    /**
     * A value of a block that may have a range.
     *
     * @param sites that see it  @param channels of its rows  @param cached whether a decoder keeps it
     */
    public record Value(String name, List<Site> sites, long channels, boolean cached) {}

    /** The inputs of a block's linears, its stored keys and its values. */
    public static List<Value> values(Block b) {
        List<Value> all = new ArrayList<>();
        for (int i = 0; i < INPUTS.size(); i++) {
            List<Linear> readers = b.readers().get(i);
            all.add(new Value(INPUTS.get(i), readers.stream().map(l -> l.inputSite).toList(), readers.getFirst().inputs(), false));
        }
        all.add(new Value("keys", List.of(b.storedKeySite()), b.k.outputs(), true));
        all.add(new Value("values", List.of(b.valueSite), b.v.outputs(), true));
        return all;
    }

    /** Says in config.json which ranges are in the model's sites. */
    public static void describe(Model m, ObjectNode config) {
        config.remove(KEY);
        ObjectNode said = config.objectNode().put("scheme", SCHEME);
        ArrayNode blocks = said.putArray("blocks");
        for (Block b : m.blocks()) {
            ObjectNode block = blocks.addObject();
            for (Value v : values(b)) {
                Site.Whole q = v.sites.getFirst().whole();
                // as a double, whose digits give the float back
                if (q != null) block.putObject(v.name).put("bits", q.bits).put("scale", (double) m.memory().floats(q.step.value())[0]).put("zero_point", 0);
            }
        }
        for (JsonNode block : blocks) if (!block.isEmpty()) config.set(KEY, said);
    }

    /** Puts the ranges that a config.json gives, if any, last into the model's sites. */
    public static void install(Model m, JsonNode config, String origin) {
        JsonNode said = config.path(KEY);
        if (said.isMissingNode() || said.isNull()) return;
        JsonNode blocks = said.path("blocks");
        if (!said.path("scheme").asText().equals(SCHEME) || blocks.size() != m.blocks().size()) {
            throw Fail.data("%s: %s has scheme \"%s\" and %d blocks, expected \"%s\" and this model's %d. Without the key, values are not rounded.",
                    origin, KEY, said.path("scheme").asText(), blocks.size(), SCHEME, m.blocks().size());
        }
        for (Block b : m.blocks()) install(m, b, blocks.path(b.index), origin);
    }

    private static void install(Model m, Block b, JsonNode block, String origin) {
        if (!block.isObject()) throw Fail.data("%s: %s of block %d is %s, expected an object of ranges", origin, KEY, b.index, block);
        Set<String> unknown = new HashSet<>();
        block.fieldNames().forEachRemaining(unknown::add);
        for (Value v : values(b)) {
            if (!unknown.remove(v.name)) continue;
            JsonNode said = block.get(v.name);
            int bits = said.path("bits").asInt(0);
            float scale = (float) said.path("scale").asDouble(Double.NaN);
            if (bits < 2 || bits > 16 || !(scale > 0 && scale < Float.POSITIVE_INFINITY) || said.path("zero_point").asDouble(Double.NaN) != 0) {
                throw Fail.data("%s: %s of block %d gives %s as %s, expected bits of 2 to 16, a scale above 0 and a zero_point of 0. Without the entry, this value is not rounded.",
                        origin, KEY, b.index, v.name, said);
            }
            Param step = new Param("%s of block %d".formatted(v.name, b.index), Param.Kind.SCALE, m.memory().tensor(v.name, 1));
            m.memory().set(step.value(), scale);
            Site.Whole once = new Site.Whole(bits, step);
            v.sites.forEach(s -> s.add(once));
        }
        if (!unknown.isEmpty()) {
            throw Fail.data("%s: %s of block %d names %s, expected only %s", origin, KEY, b.index, unknown.stream().sorted().toList(), values(b).stream().map(Value::name).toList());
        }
    }
}
