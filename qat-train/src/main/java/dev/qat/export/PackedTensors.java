package dev.qat.export;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/** A packed model's tensors and settings, each checked before it is believed. */
record PackedTensors(HfModelDir dir) {
    /** Fails with a sentence unless the tensor has this dtype and shape. */
    void expect(String name, StoredType type, long... shape) {
        var e = dir.entry(name);
        if (e.dtype() == type && Arrays.equals(e.shape(), shape)) return;
        throw Fail.data("%s: %s, expected %s%s; quantization_config and tensors disagree, or the format is an older one", dir.dir(), e, type, Arrays.toString(shape));
    }

    int[] ints(String name) {
        return dir.bytes(name).toArray(ValueLayout.JAVA_INT_UNALIGNED);
    }

    float[] floats(String name) {
        float[] values = new float[Math.toIntExact(dir.entry(name).count())];
        dir.read(name, MemorySegment.ofArray(values));
        return values;
    }

    /** A whole number of quantization_config. */
    int whole(JsonNode node, String key, int... allowed) {
        JsonNode v = node.path(key);
        if (v.isIntegralNumber() && v.canConvertToInt() && (allowed.length == 0 || Arrays.stream(allowed).anyMatch(a -> a == v.intValue()))) return v.intValue();
        throw Fail.data("%s: quantization_config has %s = %s, expected %s", dir.dir(), key, v, allowed.length == 0 ? "a whole number" : "one of " + Arrays.toString(allowed));
    }

    /** A config's group for rows of {@code cols}: −1 is the whole row. */
    int group(int group, long cols, String linear) {
        if (group == -1) return Math.toIntExact(cols);
        if (group >= 1 && cols % group == 0) return group;
        throw Fail.data("%s: group_size = %d does not divide the %d inputs of %s", dir.dir(), group, cols, linear);
    }

    /** Which group each input is in; null where there is no such tensor, or it says i / G.   g_idx I32 (I) */
    int[] order(String name, long cols, int g) {
        if (!dir.has(name)) return null;
        expect(name, StoredType.I32, cols);
        int[] order = ints(name), members = new int[Math.toIntExact(cols / g)];
        boolean plain = true;
        for (int i = 0; i < order.length; i++) {
            if (order[i] < 0 || order[i] >= members.length || ++members[order[i]] > g) {
                throw Fail.data("%s: %s puts input %d into group %d, expected %d groups of %d inputs; the file is damaged", dir.dir(), name, i, order[i], members.length, g);
            }
            plain &= order[i] == i / g;
        }
        return plain ? null : order;
    }

    void expectScales(String name, long... shape) {
        StoredType type = dir.entry(name).dtype();
        if (!type.convertible()) throw Fail.data("%s: %s is %s, expected F16, BF16 or F32", dir.dir(), name, type);
        dir.expect(name, shape);
    }
}
