package dev.qat.model;

import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.Collectors;

/** A model's values as a Hugging Face directory stores them, which must stay open; a tied matrix may lie there under either of its names. */
record HfSource(HfModelDir dir) implements Model.Source {
    /** What config.json says, and whether embedding and head are one, which the tensors that are there decide. */
    ModelConfig config() {
        ModelConfig c = ModelConfig.of(dir.config(), dir.dir().resolve("config.json").toString());
        boolean tied = c.tied() || !dir.has("lm_head.weight") || !dir.has("model.embed_tokens.weight");
        return c.tied() == tied ? c : c.tied(tied);
    }

    /** Every parameter is there in its shape; and what the config does not declare (a bias, a norm) would change what the model computes. */
    void check(Model m) {
        List<Param> params = m.params();
        for (Param p : params) dir.expect(stored(p), p.value().dims());
        Set<String> known = params.stream().map(Param::name).collect(Collectors.toSet());
        for (String name : dir.names()) {
            boolean tied = name.equals("lm_head.weight") || name.equals(m.embedding.name()), derived = name.endsWith(".rotary_emb.inv_freq");
            if (known.contains(name) || tied || derived) continue;
            throw Fail.data("%s: the weights hold %s, for which a %s of this config.json has no place. Is a key missing there (attention_bias, mlp_bias), or model_type wrong?",
                    dir.dir(), name, m.config.type());
        }
    }

    /** A tied matrix may be stored under either name, and is what both are read from again after {@link Model#untie}. */
    private String stored(Param p) {
        if (dir.has(p.name())) return p.name();
        return switch (p.kind()) {
            case EMBEDDING -> "lm_head.weight";
            case HEAD -> "model.embed_tokens.weight";
            default -> p.name();
        };
    }

    @Override
    public void read(Memory memory, Param p) {
        String name = stored(p);
        Tensor to = p.value();
        dir.expect(name, to.dims());
        boolean asStored = to.type == DType.BF16 && dir.entry(name).dtype() == StoredType.BF16;
        if (asStored) memory.write(to, (piece, at) -> MemorySegment.copy(dir.bytes(name), at, piece, 0, piece.byteSize()));
        else if (to.type == DType.F32) memory.write(to, (piece, at) -> dir.read(name, at / 4, piece));
        else memory.write(to, (piece, at) -> narrow(piece, floats -> dir.read(name, at / 2, floats)));
    }

    /** Puts what {@code values} puts into fp32 memory into {@code to} as BF16. */
    static void narrow(MemorySegment to, Consumer<MemorySegment> values) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment floats = arena.allocate(2 * to.byteSize(), 64);
            values.accept(floats);
            StoredType.BF16.narrow(to, floats);
        }
    }
}
