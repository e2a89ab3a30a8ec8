package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;

/** AWQ's "gemm" tensors, layout in {@link AwqOut}. */
final class AwqReader implements PackedReader {
    private final PackedTensors in;
    private final int group;

    AwqReader(HfModelDir dir, JsonNode q) {
        in = new PackedTensors(dir);
        in.whole(q, "bits", 4);
        group = in.whole(q, "group_size");
        if (!q.path("version").asText("gemm").equalsIgnoreCase("gemm")) throw Fail.data("%s: AWQ version = %s, expected gemm", dir.dir(), q.path("version"));
    }

    @Override
    public void check(String linear, long rows, long cols) {
        int g = in.group(group, cols, linear);
        if (rows % 8 != 0) throw Fail.data("%s: %s has %d outputs, no multiple of 8", in.dir().dir(), linear, rows);
        in.expect(linear + ".qweight", StoredType.I32, cols, rows / 8);
        in.expect(linear + ".qzeros", StoredType.I32, cols / g, rows / 8);
        in.expectScales(linear + ".scales", cols / g, rows);
    }

    @Override
    public Lattice read(String linear, int rows, int cols) {
        int g = in.group(group, cols, linear), groups = cols / g;
        int[] codes = nibbles(in.ints(linear + ".qweight"), rows, cols), zeros = nibbles(in.ints(linear + ".qzeros"), rows, groups);
        float[] zero = new float[zeros.length];
        for (int i = 0; i < zero.length; i++) zero[i] = zeros[i];
        return Lattice.of(linear, 4, g, rows, cols, codes, Transposed.floats(in.floats(linear + ".scales"), groups, rows), zero);
    }

    /** Words (count, rows/8) to values (rows, count). */
    private static int[] nibbles(int[] words, int rows, int count) {
        int[] values = new int[Math.multiplyExact(rows, count)];
        for (int o = 0; o < rows; o++) {
            int shift = AwqOut.shift(o);
            for (int i = 0; i < count; i++) values[o * count + i] = words[i * (rows / 8) + o / 8] >>> shift & 15;
        }
        return values;
    }
}
