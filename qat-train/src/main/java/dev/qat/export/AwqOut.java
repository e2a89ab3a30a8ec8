package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * AWQ's "gemm" tensors of a linear P, W (O, I) in groups of G, 4 bits:
 *
 * <pre>
 * P.qweight  I32 (I, O/8)     nibble k of word c = the code of output 8c + ORDER[k]
 * P.qzeros   I32 (I/G, O/8)   zero points in the same order, as they are
 * P.scales   F16 (I/G, O)
 * </pre>
 *
 * Source: AutoAWQ's {@code WQLinear_GEMM} and vLLM's loader.
 */
final class AwqOut implements PackedFormat {
    static final int[] ORDER = {0, 2, 4, 6, 1, 3, 5, 7};

    @Override
    public int bits(Lattice l) {
        if (l.bits() > 4) throw Fail.usage("%s has %d-bit codes and AWQ holds 4; write gptq-v2, compressed-tensors or gguf:q8_0", l.name(), l.bits());
        return 4;
    }

    @Override
    public void shape(String linear, int bits, long rows, long cols) {
        if (rows % 8 != 0) throw Fail.usage("%s has %d outputs, and AWQ packs eight to a word; write a gguf target", linear, rows);
    }

    @Override
    public List<Slot> slots(Lattice l) {
        return List.of(new Slot(l.name() + ".qweight", StoredType.I32, l.cols(), l.rows() / 8),
                new Slot(l.name() + ".qzeros", StoredType.I32, l.groups(), l.rows() / 8),
                new Slot(l.name() + ".scales", StoredType.F16, l.groups(), l.rows()));
    }

    @Override
    public List<Part> parts(Lattice l, HalfSteps steps) {
        int[] weights = new int[l.cols() * (l.rows() / 8)], zeros = new int[l.groups() * (l.rows() / 8)], row = new int[l.cols()], zero = new int[l.groups()];
        for (int o = 0; o < l.rows(); o++) {
            l.codes(row, o);
            for (int g = 0; g < zero.length; g++) zero[g] = (int) l.zero()[o * zero.length + g];
            put(weights, row, o, l.rows() / 8);
            put(zeros, zero, o, l.rows() / 8);
        }
        List<Slot> slots = slots(l);
        return List.of(new Part(slots.get(0), MemorySegment.ofArray(weights)), new Part(slots.get(1), MemorySegment.ofArray(zeros)),
                new Part(slots.get(2), MemorySegment.ofArray(Transposed.shorts(steps.bits(), l.rows(), l.groups()))));
    }

    /** Puts output o's values into its nibble of a column of words. */
    private static void put(int[] words, int[] values, int o, int perRow) {
        for (int i = 0; i < values.length; i++) words[i * perRow + o / 8] |= values[i] << shift(o);
    }

    /** Where output o's nibble begins: the place of o % 8 in ORDER. */
    static int shift(int o) {
        int k = 0;
        while (ORDER[k] != o % 8) k++;
        return 4 * k;
    }

    @Override
    public void config(ObjectNode q, Grid grid) {
        q.put("quant_method", "awq").put("bits", grid.bits()).put("group_size", grid.group()).put("zero_point", true)
                .put("version", "gemm").putNull("modules_to_not_convert");
    }
}
