package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * compressed-tensors' "pack-quantized" tensors of a linear P, W (O, I) in groups of G; q and zp are signed, u = q + 2^(b−1):
 *
 * <pre>
 * P.weight_packed      I32 (O, ⌈I·b/32⌉)    row = the bit stream of u
 * P.weight_scale       F16 or BF16 (O, I/G)
 * P.weight_shape       I64 (2)              O, I
 * P.weight_zero_point  I32 (⌈O·b/32⌉, I/G)  asymmetric only: column = the bit stream of zp + 2^(b−1)
 * </pre>
 *
 * Our codes are u and our zero points zp + 2^(b−1) already. The dense stream for 3 bits is the packing since 2026-05-29;
 * earlier readers expect ten codes to a word. Source: compressed-tensors' pack_quantized and its pull request 715.
 */
final class CompressedTensorsOut implements PackedFormat {
    private final boolean symmetric;
    private final Half half;

    CompressedTensorsOut(boolean symmetric, Half half) {
        this.symmetric = symmetric;
        this.half = half;
    }

    /** Zero points are left out where every one of them is 2^(b−1). */
    static CompressedTensorsOut of(Frozen model, Half half) {
        return new CompressedTensorsOut(model.quantized().stream().allMatch(l -> model.lattice(l).symmetric()), half);
    }

    @Override
    public Half half() {
        return half;
    }

    @Override
    public int bits(Lattice l) {
        return l.bits();
    }

    @Override
    public void check(Lattice l) {
        Fail.unless(!symmetric || l.symmetric(), "%s is not symmetric", l.name());
    }

    @Override
    public List<Slot> slots(Lattice l) {
        List<Slot> slots = new ArrayList<>(List.of(new Slot(l.name() + ".weight_packed", StoredType.I32, l.rows(), l.wordsPerRow()),
                new Slot(l.name() + ".weight_scale", half == Half.BF16 ? StoredType.BF16 : StoredType.F16, l.rows(), l.groups()),
                new Slot(l.name() + ".weight_shape", StoredType.I64, 2)));
        if (!symmetric) slots.add(new Slot(l.name() + ".weight_zero_point", StoredType.I32, wordsPerColumn(l), l.groups()));
        return slots;
    }

    private static int wordsPerColumn(Lattice l) {
        return (int) (((long) l.rows() * l.bits() + 31) / 32);
    }

    @Override
    public List<Part> parts(Lattice l, HalfSteps steps) {
        List<Slot> slots = slots(l);
        List<Part> parts = new ArrayList<>(List.of(new Part(slots.get(0), MemorySegment.ofArray(l.words())),
                new Part(slots.get(1), MemorySegment.ofArray(steps.bits())),
                new Part(slots.get(2), MemorySegment.ofArray(new long[] {l.rows(), l.cols()}))));
        if (!symmetric) parts.add(new Part(slots.get(3), MemorySegment.ofArray(zeros(l))));
        return parts;
    }

    private static int[] zeros(Lattice l) {
        int perColumn = wordsPerColumn(l), groups = l.groups();
        int[] words = new int[groups * perColumn], column = new int[l.rows()];
        for (int g = 0; g < groups; g++) {
            for (int o = 0; o < column.length; o++) column[o] = (int) l.zero()[o * groups + g];
            BitStream.pack(words, g * perColumn, column, 0, column.length, l.bits());
        }
        return Transposed.ints(words, groups, perColumn);
    }

    @Override
    public void config(ObjectNode q, Grid grid) {
        q.put("quant_method", "compressed-tensors").put("format", "pack-quantized").put("quantization_status", "compressed");
        q.putNull("global_compression_ratio").putNull("kv_cache_scheme").putArray("ignore").add("lm_head");
        ObjectNode group = q.putObject("config_groups").putObject("group_0");
        group.putArray("targets").add("Linear");
        ObjectNode w = group.putObject("weights").put("num_bits", grid.bits()).put("type", "int").put("symmetric", symmetric);
        if (grid.group() < 0) w.put("strategy", "channel").putNull("group_size");
        else w.put("strategy", "group").put("group_size", grid.group());
        w.put("dynamic", false).putNull("actorder").put("observer", "minmax");
        group.putNull("input_activations").putNull("output_activations");
    }
}
