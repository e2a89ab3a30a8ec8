package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import java.util.Arrays;

/** compressed-tensors' pack-quantized tensors, layout in {@link CompressedTensorsOut}; one config group for all linears. */
final class CompressedTensorsReader implements PackedReader {
    private final PackedTensors in;
    private final int bits, group;
    private final boolean symmetric;

    CompressedTensorsReader(HfModelDir dir, JsonNode q) {
        in = new PackedTensors(dir);
        if (!q.path("format").asText().equals("pack-quantized")) throw Fail.data("%s: compressed-tensors format is %s, expected pack-quantized", dir.dir(), q.path("format"));
        JsonNode groups = q.path("config_groups");
        if (!groups.isObject() || groups.size() != 1) throw Fail.data("%s: %d config_groups, expected one for all linears", dir.dir(), groups.size());
        JsonNode w = groups.elements().next().path("weights");
        bits = in.whole(w, "num_bits", 1, 2, 3, 4, 5, 6, 7, 8);
        symmetric = w.path("symmetric").asBoolean(true);
        group = switch (w.path("strategy").asText()) {
            case "group" -> in.whole(w, "group_size");
            case "channel" -> -1;
            default -> throw Fail.data("%s: strategy = %s, expected group or channel", dir.dir(), w.path("strategy"));
        };
    }

    @Override
    public void check(String linear, long rows, long cols) {
        int g = in.group(group, cols, linear);
        in.expect(linear + ".weight_packed", StoredType.I32, rows, PackedWeight.wordsPerRow(cols, bits));
        in.expectScales(linear + ".weight_scale", rows, cols / g);
        if (!symmetric) in.expect(linear + ".weight_zero_point", StoredType.I32, (rows * bits + 31) / 32, cols / g);
    }

    /** With actorder = group; of the other orders nothing is left to see. */
    @Override
    public int[] order(String linear, long cols) {
        return in.order(linear + ".weight_g_idx", cols, in.group(group, cols, linear));
    }

    @Override
    public Lattice read(String linear, int rows, int cols) {
        int g = in.group(group, cols, linear), groups = cols / g, perColumn = (int) (((long) rows * bits + 31) / 32);
        float[] zero = new float[rows * groups];
        Arrays.fill(zero, 1 << bits - 1);
        if (!symmetric) {
            int[] words = Transposed.ints(in.ints(linear + ".weight_zero_point"), perColumn, groups), column = new int[rows];
            for (int i = 0; i < groups; i++) {
                BitStream.unpack(column, 0, words, i * perColumn, rows, bits);
                for (int o = 0; o < rows; o++) zero[o * groups + i] = column[o];
            }
        }
        return new Lattice(linear, bits, g, rows, cols, in.ints(linear + ".weight_packed"), in.floats(linear + ".weight_scale"), zero, null);
    }
}
