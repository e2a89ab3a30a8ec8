package dev.qat.export;

import dev.qat.data.ByteLevelTokenizer;
import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.method.GroupAffine;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Backend;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.BiFunction;

/** A small random model on a directory with config and tokenizer, and codes of every kind for its linears. */
public final class Tiny {
    final Path dir;
    final Model model;
    final Backend backend;
    final Map<Linear, PackedWeight> packed = new LinkedHashMap<>();

    private Tiny(Path dir, Backend backend) {
        this.dir = dir;
        this.backend = backend;
        try (HfModelDir source = HfModelDir.describe(dir)) {
            this.model = new Model(ModelConfig.of(source.config(), "tiny"), backend.memory());
        }
        Random random = new Random(11);
        for (Param p : model.params()) {
            float[] values = new float[(int) p.value().size()];
            for (int i = 0; i < values.length; i++) values[i] = (float) (p.kind() == Param.Kind.GAIN ? 1 + 0.2 * random.nextGaussian() : 0.15 * random.nextGaussian());
            backend.memory().set(p.value(), values);
        }
    }

    /** @param more further lines of config.json, each ending in a comma */
    public static Tiny of(Path dir, Backend backend, String type, int width, int mlp, String more) {
        String config = """
                {%s "architectures": ["LlamaForCausalLM"], "model_type": "%s", "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": 2,
                 "num_attention_heads": 8, "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": 272,
                 "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257}""".formatted(more, type, width, mlp);
        try {
            Files.createDirectories(dir);
            Files.writeString(dir.resolve("config.json"), config);
            Files.writeString(dir.resolve("tokenizer.json"), ByteLevelTokenizer.json());
            Files.writeString(dir.resolve("tokenizer_config.json"), ByteLevelTokenizer.config(128));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new Tiny(dir, backend);
    }

    /** Gives every linear codes made by {@code maker} from its outputs and inputs, and bakes them into the weights. */
    public Tiny quantize(BiFunction<Linear, Random, Lattice> maker) {
        Random random = new Random(5);
        for (Linear l : model.linears()) {
            PackedWeight p = maker.apply(l, random).upload(backend.memory());
            packed.put(l, p);
            backend.dequantize(l.weight.value(), p, p.step());
        }
        return this;
    }

    /** Gives every linear the codes that a target's rule makes of its weights; what stays in the sites computes the same. */
    Tiny trainedFor(String target) {
        List<GroupAffine> quantizers = GroupAffine.install(backend, "steps", model.linears(), 0, 0, Target.of(target).rule());
        List<PackedWeight> codes = GroupAffine.freeze(backend, quantizers);
        for (int i = 0; i < codes.size(); i++) packed.put(quantizers.get(i).linear(), codes.get(i));
        return this;
    }

    /** Writes what a finished run leaves: the model with its codes, and the recipe. */
    public Path run(Path to) {
        try (HfModelDir source = HfModelDir.describe(dir)) {
            Files.createDirectories(to);
            Files.writeString(to.resolve("recipe.yaml"), "name: tiny\n");
            new HfOut(source, StoredType.F32, Map.of("backend", "test")).write(to.resolve("model"), model, packed);
            return to;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    FrozenModel frozen() {
        return new FrozenModel(model, packed, HfModelDir.describe(dir), Map.of("qat", "test"));
    }

    /** Random codes; {@code zero} below 0 draws a zero point per group. Steps are no fp16 numbers. */
    static Lattice lattice(Linear l, Random random, int bits, int group, int zero, int largestCode) {
        int rows = (int) l.outputs(), cols = (int) l.inputs(), g = group <= 0 ? cols : group;
        int[] codes = new int[rows * cols];
        for (int i = 0; i < codes.length; i++) codes[i] = random.nextInt(largestCode + 1);
        float[] step = new float[rows * (cols / g)], zeros = new float[step.length];
        for (int i = 0; i < step.length; i++) {
            step[i] = 0.2f * (0.5f + random.nextFloat()) / (1 << bits - 1);
            zeros[i] = zero >= 0 ? zero : random.nextInt(1 << bits);
        }
        return Lattice.of(l.name, bits, g, rows, cols, codes, step, zeros);
    }

    public static BiFunction<Linear, Random, Lattice> symmetric(int bits, int group) {
        return (l, random) -> lattice(l, random, bits, group, 1 << bits - 1, (1 << bits) - 1);
    }

    public static BiFunction<Linear, Random, Lattice> asymmetric(int bits, int group) {
        return (l, random) -> lattice(l, random, bits, group, -1, (1 << bits) - 1);
    }

    /** Codes 0 to 2 about 1, as ternary methods freeze them. */
    public static BiFunction<Linear, Random, Lattice> ternary(int group) {
        return (l, random) -> lattice(l, random, 2, group, 1, 2);
    }
}
