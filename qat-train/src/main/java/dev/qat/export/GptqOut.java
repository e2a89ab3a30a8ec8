package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * GPTQ's tensors of a linear P, W (O, I) in groups of G, codes of 2, 3, 4 or 8 bits:
 *
 * <pre>
 * P.qweight  I32 (I·b/32, O)     column o = the bit stream of row o of W
 * P.qzeros   I32 (I/G, O·b/32)   row = the bit stream of the zero points; version 1 stores zero − 1, version 2 the zero
 * P.scales   F16 (I/G, O)
 * P.g_idx    I32 (I)             i / G
 * </pre>
 *
 * With 3 bits, 32 codes fill 3 words. Source: GPTQModel (its README on checkpoint_format, and its packing code).
 */
final class GptqOut implements PackedFormat {
    private static final List<Integer> BITS = List.of(2, 3, 4, 8);

    private final int version;

    /** @param version 1 ("gptq", what most loaders read) or 2 ("gptq_v2") */
    GptqOut(int version) {
        this.version = version;
    }

    @Override
    public int bits(Lattice l) {
        return BITS.stream().filter(b -> b >= l.bits()).findFirst().orElseThrow();
    }

    @Override
    public void shape(String linear, int bits, long rows, long cols) {
        if (cols * bits % 32 == 0 && rows * bits % 32 == 0) return;
        int multiple = bits % 2 == 1 ? 32 : 32 / bits;
        throw Fail.usage("%s is %d x %d: GPTQ packs %d-bit codes into whole 32-bit words along both sides, so both must be multiples of %d; write a gguf target",
                linear, rows, cols, bits, multiple);
    }

    @Override
    public void check(Lattice l) {
        if (version == 2) return;
        for (float z : l.zero()) {
            if (z == 0) throw Fail.usage("%s has a zero point of 0, and GPTQ version 1 stores zero - 1; write gptq-v2", l.name());
        }
    }

    @Override
    public List<Slot> slots(Lattice l) {
        return List.of(new Slot(l.name() + ".qweight", StoredType.I32, l.wordsPerRow(), l.rows()),
                new Slot(l.name() + ".qzeros", StoredType.I32, l.groups(), (long) l.rows() * l.bits() / 32),
                new Slot(l.name() + ".scales", StoredType.F16, l.groups(), l.rows()),
                new Slot(l.name() + ".g_idx", StoredType.I32, l.cols()));
    }

    @Override
    public List<Part> parts(Lattice l, HalfSteps steps) {
        List<Slot> slots = slots(l);
        int[] order = new int[l.cols()];
        for (int i = 0; i < order.length; i++) order[i] = i / l.group();
        return List.of(new Part(slots.get(0), MemorySegment.ofArray(Transposed.ints(l.words(), l.rows(), l.wordsPerRow()))),
                new Part(slots.get(1), MemorySegment.ofArray(zeros(l))),
                new Part(slots.get(2), MemorySegment.ofArray(Transposed.shorts(steps.bits(), l.rows(), l.groups()))),
                new Part(slots.get(3), MemorySegment.ofArray(order)));
    }

    private int[] zeros(Lattice l) {
        int perRow = (int) ((long) l.rows() * l.bits() / 32);
        int[] words = new int[l.groups() * perRow], row = new int[l.rows()];
        for (int g = 0; g < l.groups(); g++) {
            for (int o = 0; o < row.length; o++) row[o] = (int) l.zero()[o * l.groups() + g] - (version == 1 ? 1 : 0);
            BitStream.pack(words, g * perRow, row, 0, row.length, l.bits());
        }
        return words;
    }

    @Override
    public void config(ObjectNode q, Grid grid) {
        q.put("quant_method", "gptq").put("bits", grid.bits()).put("group_size", grid.group()).put("desc_act", false)
                .put("sym", grid.symmetric()).put("lm_head", false).put("checkpoint_format", version == 1 ? "gptq" : "gptq_v2")
                .put("pack_dtype", "int32").put("damp_percent", 0.01).putObject("meta").putArray("quantizer").add("qat:0.1.0");
    }

    @Override
    public List<String> copies() {
        return List.of("quantize_config.json");
    }
}
