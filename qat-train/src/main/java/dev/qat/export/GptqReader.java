package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;

/** GPTQ's tensors, layout in {@link GptqOut}; with desc_act, g_idx says which group an input is in. */
final class GptqReader implements PackedReader {
    private final PackedTensors in;
    private final int bits, group, shift;

    GptqReader(HfModelDir dir, JsonNode q) {
        in = new PackedTensors(dir);
        bits = in.whole(q, "bits", 2, 3, 4, 8);
        group = in.whole(q, "group_size");
        shift = switch (q.path("checkpoint_format").asText("gptq")) {
            case "gptq" -> 1;
            case "gptq_v2" -> 0;
            default -> throw Fail.data("%s: checkpoint_format = %s, expected gptq or gptq_v2", dir.dir(), q.path("checkpoint_format"));
        };
    }

    @Override
    public void check(String linear, long rows, long cols) {
        int g = in.group(group, cols, linear);
        if (rows * bits % 32 != 0 || cols * bits % 32 != 0) throw Fail.data("%s: %s is %d x %d, which %d-bit GPTQ does not pack", in.dir().dir(), linear, rows, cols, bits);
        in.expect(linear + ".qweight", StoredType.I32, cols * bits / 32, rows);
        in.expect(linear + ".qzeros", StoredType.I32, cols / g, rows * bits / 32);
        in.expectScales(linear + ".scales", cols / g, rows);
    }

    @Override
    public int[] order(String linear, long cols) {
        return in.order(linear + ".g_idx", cols, in.group(group, cols, linear));
    }

    @Override
    public Lattice read(String linear, int rows, int cols) {
        int g = in.group(group, cols, linear), groups = cols / g, perRow = rows * bits / 32;
        int[] words = Transposed.ints(in.ints(linear + ".qweight"), cols * bits / 32, rows), stored = in.ints(linear + ".qzeros"), row = new int[rows];
        float[] zero = new float[rows * groups];
        for (int i = 0; i < groups; i++) {
            BitStream.unpack(row, 0, stored, i * perRow, rows, bits);
            for (int o = 0; o < rows; o++) zero[o * groups + i] = row[o] + shift;
        }
        return new Lattice(linear, bits, g, rows, cols, words, Transposed.floats(in.floats(linear + ".scales"), groups, rows), zero, null);
    }
}
