package dev.qat.method;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;

/**
 * A weight that was quantized on the host.
 *
 * @param values (O, I), each (code − zero) · step  @param step (O, I/G)  @param zero (O, I/G), whole numbers in [0, Q]
 */
record Solved(float[] values, float[] step, float[] zero) {
    static Solved empty(int rows, int cols, int group) {
        int groups = rows * (cols / group);
        return new Solved(new float[rows * cols], new float[groups], new float[groups]);
    }

    /** As bytes that a run keeps: values, step, zero of one after the other. */
    static List<MemorySegment> segments(List<Solved> all) {
        return all.stream().flatMap(s -> List.of(s.values, s.step, s.zero).stream()).map(MemorySegment::ofArray).toList();
    }

    static List<Solved> of(List<MemorySegment> segments) {
        List<Solved> all = new ArrayList<>();
        for (int i = 0; i < segments.size(); i += 3) all.add(new Solved(floats(segments.get(i)), floats(segments.get(i + 1)), floats(segments.get(i + 2))));
        return all;
    }

    private static float[] floats(MemorySegment bytes) {
        return bytes.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    }
}
