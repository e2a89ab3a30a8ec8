package dev.qat.model;

import dev.qat.data.HfModelDir;
import dev.qat.ops.Ops;
import dev.qat.ops.Philox;
import dev.qat.ops.Tape;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/** A decoder-only language model: embedding, blocks, final norm, head. It never knows which method is at work in its sites. */
public final class Model {
    public final ModelConfig config;
    public final Param embedding;   // (V, C)
    public final Param norm;        // (C)
    /** (V, C); the embedding itself where the two are tied. */
    public final Param head;
    private final List<Block> blocks = new ArrayList<>();
    private final Memory memory;
    private final Tensor rope;

    /** Reserves the memory of a model without filling it, which is all a plan needs. */
    public Model(ModelConfig config, Memory memory) {
        this.config = config;
        this.memory = memory;
        Param[] ends = Slab.of(memory, "embedding, head", s -> new Param[] {
                s.param("model.embed_tokens.weight", Kind.EMBEDDING, config.V(), config.C()),
                config.tied() ? null : s.param("lm_head.weight", Kind.HEAD, config.V(), config.C()),
                s.param("model.norm.weight", Kind.GAIN, config.C())});
        embedding = ends[0];
        head = config.tied() ? embedding : ends[1];
        norm = ends[2];
        for (int i = 0; i < config.layers(); i++) {
            int index = i;
            blocks.add(Slab.of(memory, "block %d weights".formatted(i), s -> new Block(config, index, s)));
        }
        rope = memory.tensor("rope", 2, config.context(), config.D() / 2);
        memory.set(rope, Rope.table(config.rope(), config.context(), config.D()));
    }

    /** Reads a Hugging Face directory, fp32. */
    public static Model load(HfModelDir dir, Memory memory) {
        ModelConfig config = ModelConfig.of(dir.config(), dir.dir().resolve("config.json").toString());
        boolean tied = config.tied() || !dir.has("lm_head.weight") || !dir.has("model.embed_tokens.weight");
        ModelConfig actual = config.tied() == tied ? config : new ModelConfig(config.type(), config.V(), config.C(), config.F(), config.layers(),
                config.H(), config.K(), config.D(), config.eps(), config.rope(), config.context(), tied, config.qkvBias(), config.outBias(), config.mlpBias(), config.qkNorm());
        Model m = new Model(actual, memory);
        for (Param p : m.params()) m.read(dir, p);
        m.refuseLeftovers(dir);
        return m;
    }

    /** A tensor that the config does not declare (a bias, a norm) would change what the model computes. */
    private void refuseLeftovers(HfModelDir dir) {
        Set<String> known = params().stream().map(Param::name).collect(Collectors.toSet());
        for (String name : dir.names()) {
            boolean tied = name.equals("lm_head.weight") || name.equals(embedding.name()), derived = name.endsWith(".rotary_emb.inv_freq");
            if (known.contains(name) || tied || derived) continue;
            throw Fail.data("%s: the weights hold %s, for which a %s of this config.json has no place. Is a key missing there (attention_bias, mlp_bias), or model_type wrong?",
                    dir.dir(), name, config.type());
        }
    }

    private void read(HfModelDir dir, Param p) {
        // a tied matrix may be stored under either name
        String name = p == embedding && !dir.has(p.name()) ? "lm_head.weight" : p.name();
        dir.expect(name, p.value().dims());
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment floats = arena.allocate(p.value().bytes(), 64);
            dir.read(name, floats);
            memory.write(p.value(), floats);
        }
    }

    /** Fresh weights: normal with standard deviation 0.02, the products that write the residual stream 0.02 / √(2 · layers). */
    public void randomize(long seed) {
        int tensor = 0;
        for (Param p : params()) {
            tensor++;
            double std = p.name().endsWith("o_proj.weight") || p.name().endsWith("down_proj.weight") ? 0.02 / Math.sqrt(2 * config.layers()) : 0.02;
            float[] values = new float[Math.toIntExact(p.value().size())];
            for (int i = 0; i < values.length; i++) {
                values[i] = switch (p.kind()) {
                    case GAIN -> 1;
                    case BIAS -> 0;
                    default -> (float) (std * Philox.normal(seed, i, tensor, 0));
                };
            }
            memory.set(p.value(), values);
        }
    }

    public Memory memory() {
        return memory;
    }

    public List<Block> blocks() {
        return blocks;
    }

    public List<Linear> linears() {
        return blocks.stream().flatMap(b -> b.linears().stream()).toList();
    }

    /** Every parameter once, in the order of the forward pass. */
    public List<Param> params() {
        List<Param> all = new ArrayList<>();
        all.add(embedding);
        for (Block b : blocks) all.addAll(b.params());
        all.add(norm);
        if (head != embedding) all.add(head);
        return all;
    }

    /** Stops every parameter from training. */
    public void freeze() {
        for (Param p : params()) {
            p.value().wants = false;
            p.value().grad = null;
        }
    }

    /** Positions of B sequences of T tokens, kept for as long as they are needed. */
    public Positions positions(int B, int T) {
        Tensor p = memory.tensor("positions", dev.qat.tensor.DType.I32, (long) B * T);
        int[] at = new int[B * T];
        for (int i = 0; i < at.length; i++) at[i] = i % T;
        memory.set(p, at);
        return new Positions(B, T, rope, p);
    }

    /** (2, context, D/2): cosines, then sines. */
    public Tensor rope() {
        return rope;
    }

    /** ids I32 (N) → (N, C), the input of block 0. */
    public Tensor embed(Tape t, Tensor ids) {
        return Ops.embed(t, ids, embedding.value());
    }

    /** The last hidden states, which the head turns into logits.   ids I32 (B·T) → (B·T, C) */
    public Tensor hidden(Tape t, Tensor ids, Positions at, boolean keep) {
        Tensor x = embed(t, ids);
        for (Block b : blocks) x = t.segment(x, keep, in -> b.forward(t, in, at));
        return Ops.rmsnorm(t, x, norm.value(), config.eps());
    }

    /** A host copy of a parameter's values. */
    public MemorySegment values(Param p, Arena arena) {
        MemorySegment out = arena.allocate(ValueLayout.JAVA_FLOAT, p.value().size());
        memory.read(out, p.value());
        return out;
    }
}
