package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelDir;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A directory in GPTQ, AWQ or compressed-tensors format, whoever wrote it, read back into codes, steps and zero points.
 *
 * <p>Layouts: {@link GptqOut}, {@link AwqOut}, {@link CompressedTensorsOut}.
 */
public final class PackedIn implements Frozen {
    private final HfModelDir dir;
    private final ModelConfig config;
    private final PackedReader reader;
    private final Map<String, long[]> shapes;
    private final List<String> quantized = new ArrayList<>();
    /** Linears whose groups are no neighbours: they have steps for no code of ours, and are read as weights. */
    private final Map<String, int[]> reordered = new HashMap<>();

    private PackedIn(HfModelDir dir) {
        this.dir = dir;
        this.config = Configs.of(dir);
        this.shapes = Configs.shapes(config);
        JsonNode q = dir.config().path("quantization_config");
        String origin = dir.dir().resolve("config.json").toString();
        this.reader = switch (q.path("quant_method").asText("")) {
            case "gptq" -> new GptqReader(dir, q);
            case "awq" -> new AwqReader(dir, q);
            case "compressed-tensors" -> new CompressedTensorsReader(dir, q);
            default -> throw Fail.data("%s: quant_method is '%s', expected gptq, awq or compressed-tensors", origin, q.path("quant_method").asText("missing"));
        };
        shapes.forEach((name, shape) -> {
            String linear = Configs.linear(name);
            if (linear.isEmpty() || dir.has(name)) {
                dir.expect(Configs.stored(dir, name), shape);
            } else {
                reader.check(linear, shape[0], shape[1]);
                int[] order = reader.order(linear, shape[1]);
                if (order == null) quantized.add(linear);
                else reordered.put(linear, order);
            }
        });
        Configs.refuseLeftovers(dir, name -> shapes.containsKey(name) || !name.endsWith(".bias") && packed(name.substring(0, Math.max(0, name.lastIndexOf('.')))));
    }

    private boolean packed(String linear) {
        return quantized.contains(linear) || reordered.containsKey(linear);
    }

    /** Whether a directory's config.json names a quantization. */
    public static boolean isPacked(HfModelDir dir) {
        return dir.config().has("quantization_config");
    }

    public static PackedIn open(Path dir) {
        HfModelDir model = HfModelDir.open(dir);
        try {
            return new PackedIn(model);
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
    }

    /** The directory itself, open for as long as this is. */
    public HfModelDir dir() {
        return dir;
    }

    @Override
    public ModelConfig config() {
        return config;
    }

    @Override
    public ObjectNode configJson() {
        return Configs.plain(dir);
    }

    @Override
    public Optional<Path> tokenizer() {
        return Configs.tokenizer(dir);
    }

    @Override
    public Map<String, String> notes() {
        return Map.of();
    }

    @Override
    public List<String> quantized() {
        return List.copyOf(quantized);
    }

    @Override
    public String remark() {
        if (reordered.isEmpty()) return "";
        return "%d linears were quantized in an order of their own (desc_act), so that neighbours share no step: they are decoded, and their steps do not train".formatted(reordered.size());
    }

    @Override
    public Lattice lattice(String linear) {
        Fail.unless(quantized.contains(linear), "%s has no codes", linear);
        return stored(linear);
    }

    private Lattice stored(String linear) {
        long[] shape = shapes.get(linear + ".weight");
        return reader.read(linear, Math.toIntExact(shape[0]), Math.toIntExact(shape[1]));
    }

    @Override
    public void read(String name, MemorySegment floats) {
        String linear = Configs.linear(name);
        if (quantized.contains(linear)) {
            Lattice l = lattice(linear);
            Frozen.weights(floats, l, l.step());
        } else if (reordered.containsKey(linear)) {
            decode(floats, stored(linear), reordered.get(linear));
        } else {
            dir.read(Configs.stored(dir, name), floats);
        }
    }

    /** w = (code − zero) · step, both of the input's group.   floats (O · I), group (I) */
    private static void decode(MemorySegment floats, Lattice l, int[] group) {
        int[] codes = new int[l.cols()];
        float[] row = new float[l.cols()];
        for (int o = 0; o < l.rows(); o++) {
            l.codes(codes, o);
            for (int i = 0; i < row.length; i++) {
                int g = o * l.groups() + group[i];
                row[i] = (codes[i] - l.zero()[g]) * l.step()[g];
            }
            MemorySegment.copy(row, 0, floats, ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * o * row.length, row.length);
        }
    }

    @Override
    public void close() {
        dir.close();
    }
}
