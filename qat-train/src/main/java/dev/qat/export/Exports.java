package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.data.HfModelDir;
import dev.qat.data.HfModelWriter;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Every export target by its name, and the reader that takes back what it wrote. */
public final class Exports {
    /**
     * @param ends       how GGUF stores the embedding and the head
     * @param requantize whether GGUF may round the weights again where their lattice does not fit
     * @param maxShardBytes of tensors in one file of a directory
     */
    public record Options(GgmlType ends, boolean requantize, long maxShardBytes) {
        public static final List<GgmlType> ENDS = List.of(GgmlType.F16, GgmlType.Q8_0, GgmlType.Q6_K);
        public static final Options DEFAULT = new Options(GgmlType.F16, false);

        public Options(GgmlType ends, boolean requantize) {
            this(ends, requantize, HfModelWriter.Options.DEFAULT.maxShardBytes());
        }

        /** @param key what the user calls the choice of {@code ends} */
        public static Options of(String key, String ends, boolean requantize) {
            return new Options(GgmlType.named(ends).filter(ENDS::contains).orElseThrow(() -> Fail.usage("%s = %s, expected f16, q8_0 or q6_k", key, ends)), requantize);
        }

        public Options {
            if (!ENDS.contains(ends)) throw Fail.usage("embeddings = %s, expected f16, q8_0 or q6_k", ends.label());
            if (maxShardBytes < 1) throw Fail.usage("a shard of %d bytes, expected at least 1", maxShardBytes);
        }

        /** The same with files of a directory cut at so many bytes. */
        public Options shards(long maxBytes) {
            return new Options(ends, requantize, maxBytes);
        }
    }

    private static final List<GgmlType> GGUF = List.of(GgmlType.F32, GgmlType.F16, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q8_0, GgmlType.TQ1_0, GgmlType.TQ2_0, GgmlType.Q2_0, GgmlType.Q2_K);

    private Exports() {}

    public static List<String> names() {
        List<String> names = new ArrayList<>(List.of("hf", "gptq", "gptq-v2", "awq", "compressed-tensors"));
        GGUF.forEach(t -> names.add("gguf:" + t.label()));
        return names;
    }

    /** The exporter of a target as {@link Target} spells it. */
    public static Exporter of(String text, Options options) {
        Target named = Target.of(text);
        String target = named.name();
        if (options.requantize && !target.startsWith("gguf:")) throw Fail.usage("--requantize is for gguf targets; %s holds the codes as they are or refuses them", target);
        return switch (target) {
            case "hf" -> new PlainOut(options.maxShardBytes);
            case "gptq", "gptq-v2", "awq" -> new PackedDirOut(target, options.maxShardBytes, _ -> format(target));
            case "compressed-tensors" -> new PackedDirOut(target, options.maxShardBytes, model -> CompressedTensorsOut.of(model, named.rule().half()));
            default -> new GgufOut(GgmlType.named(target.substring("gguf:".length())).orElseThrow(), options.ends, options.requantize);
        };
    }

    /** How a packed directory's format lays out its tensors. */
    static PackedFormat format(String name) {
        return switch (name) {
            case "gptq" -> new GptqOut(1);
            case "gptq-v2" -> new GptqOut(2);
            case "awq" -> new AwqOut();
            default -> new CompressedTensorsOut(false, Half.FP16);
        };
    }

    /** Opens what any target wrote, or somebody else's file of the same formats: a .gguf file or a model directory. */
    public static Frozen open(Path path) {
        if (!Files.isDirectory(path)) return GgufIn.open(path);
        try (HfModelDir dir = HfModelDir.describe(path)) {
            return PackedIn.isPacked(dir) ? PackedIn.open(path) : FrozenDir.open(path);
        }
    }
}
