package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelDir;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
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
                quantized.add(linear);
            }
        });
        Configs.refuseLeftovers(dir, name -> shapes.containsKey(name)
                || !name.endsWith(".bias") && quantized.contains(name.substring(0, Math.max(0, name.lastIndexOf('.')))));
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
    public Lattice lattice(String linear) {
        Fail.unless(quantized.contains(linear), "%s has no codes", linear);
        long[] shape = shapes.get(linear + ".weight");
        return reader.read(linear, Math.toIntExact(shape[0]), Math.toIntExact(shape[1]));
    }

    @Override
    public void read(String name, MemorySegment floats) {
        String linear = Configs.linear(name);
        if (quantized.contains(linear)) {
            Lattice l = lattice(linear);
            Frozen.weights(floats, l, l.step());
        } else {
            dir.read(Configs.stored(dir, name), floats);
        }
    }

    @Override
    public void close() {
        dir.close();
    }
}
