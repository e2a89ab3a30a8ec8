package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.StoredType;
import dev.qat.data.HfModelDir;
import dev.qat.data.HfModelWriter;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.Ranges;
import dev.qat.model.TokenRounding;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes a Hugging Face directory: the weights as the run left them (fake-quantized ones on their lattice), config and
 * tokenizer of the source; and beside the weights, the codes themselves in packed.safetensors. What a method adds per output
 * is a bias as any other, and config.json says so (attention_bias, mlp_bias).
 *
 * <p>packed.safetensors holds, for each linear P: {@code P.codes} I32 (O, words), a dense little-endian bit stream per row;
 * {@code P.step} F32 and {@code P.zero} F32 (O, I/G); and in its metadata {@code P} = "bits=b group=G columns=I", with
 * " minimum" at the end where {@code P.zero} holds minima, with " quads" where codes are {@link Quads} and every zero point is 1:
 * then there is no {@code P.zero}.
 */
public final class HfOut {
    private final HfModelDir source;
    private final StoredType dtype;
    private final Map<String, String> notes;

    public HfOut(HfModelDir source, StoredType dtype, Map<String, String> notes) {
        this.source = source;
        this.dtype = dtype;
        this.notes = notes;
    }

    public void write(Path target, Model model, Map<Linear, PackedWeight> packed) {
        FrozenModel frozen = new FrozenModel(model, packed, source, notes);
        List<Slot> slots = new ArrayList<>();
        frozen.shapes().forEach((name, shape) -> slots.add(new Slot(name, dtype, shape)));
        ObjectNode config = frozen.configJson();
        TokenRounding.describe(model, config);
        Ranges.describe(model, config);
        config.put("torch_dtype", dtype == StoredType.BF16 ? "bfloat16" : dtype == StoredType.F16 ? "float16" : "float32");
        var options = new HfModelWriter.Options(true, HfModelWriter.Options.DEFAULT.maxShardBytes(), notes);
        try (HfModelWriter out = HfModelWriter.open(target, config, slots, options)) {
            for (Slot s : slots) {
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment floats = arena.allocate(4 * s.count(), 64);
                    frozen.read(s.name(), floats);
                    out.writeFloats(s.name(), floats);
                }
            }
            out.copyTokenizer(source.dir());
            if (!packed.isEmpty()) codes(out.file("packed.safetensors"), model, packed.values());
            out.finish();
        }
    }

    /** Bytes of a linear in packed.safetensors, and of its bias. */
    public static long bytes(PackedWeight p) {
        long codes = p.quads() ? 4 * p.rows() * Quads.wordsPerRow(p.cols()) : p.words().bytes() + 4 * p.zero().size();
        return codes + p.step().bytes() + (p.bias() == null ? 0 : p.bias().bytes());
    }

    /** What codes stand for. */
    private static MemorySegment weights(PackedWeight codes, Model model, Arena arena) {
        Lattice l = Lattice.of(codes, model.memory());
        MemorySegment floats = arena.allocate(4 * codes.rows() * codes.cols(), 64);
        Frozen.weights(floats, l, l.step());
        return floats;
    }

    private void codes(Path file, Model model, Iterable<PackedWeight> packed) {
        List<Slot> slots = new ArrayList<>();
        Map<String, String> meta = new LinkedHashMap<>(notes);
        for (PackedWeight p : packed) {
            slots.add(new Slot(p.name() + ".codes", StoredType.I32, p.quads() ? new long[] {p.rows(), Quads.wordsPerRow(p.cols())} : p.words().dims()));
            slots.add(new Slot(p.name() + ".step", StoredType.F32, p.step().dims()));
            if (!p.quads()) slots.add(new Slot(p.name() + ".zero", StoredType.F32, p.zero().dims()));
            meta.put(p.name(), "bits=%d group=%d columns=%d%s".formatted(p.bits(), p.group(), p.cols(), p.minimum() ? " minimum" : p.quads() ? " quads" : ""));
        }
        try (SafetensorsWriter out = SafetensorsWriter.open(file, slots, meta)) {
            for (PackedWeight p : packed) {
                if (p.quads()) out.write(p.name() + ".codes", MemorySegment.ofArray(Quads.pack(Lattice.of(p, model.memory()))));
                else bytes(out, p.name() + ".codes", model, p.words());
                bytes(out, p.name() + ".step", model, p.step());
                if (!p.quads()) out.writeFloats(p.name() + ".zero", MemorySegment.ofArray(model.memory().floats(p.zero())));
            }
            out.finish();
        }
    }

    private static void bytes(SafetensorsWriter out, String name, Model model, Tensor t) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(t.bytes(), 8);
            model.memory().read(bytes, t);
            out.write(name, bytes);
        }
    }
}
