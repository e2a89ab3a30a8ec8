package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * The written file, decoded by its reader, against the trained codes: every weight must be (code − zero) · stored step, bit
 * for bit, and every other tensor within its format's rounding.
 *
 * @param weights  compared bit for bit
 * @param rest     the largest |written − trained| of the other tensors, relative to the tensor's largest value
 */
public record Proof(long weights, double rest) {
    /** Fails where a single weight differs.   written: what the reader of {@code report.path()} gives */
    public static Proof of(Frozen trained, Frozen written, Report report) {
        long weights = 0;
        double rest = 0;
        for (var tensor : trained.shapes().entrySet()) {
            long count = 1;
            for (long d : tensor.getValue()) count *= d;
            String linear = Configs.linear(tensor.getKey());
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment got = arena.allocate(4 * count, 64), wanted = arena.allocate(4 * count, 64);
                written.read(tensor.getKey(), got);
                if (report.moved() == null && trained.quantized().contains(linear)) {
                    exact(wanted, trained.lattice(linear), written instanceof GgufIn g ? g.type(tensor.getKey()) : null, Target.of(report.target()));
                    long at = got.mismatch(wanted);
                    if (at >= 0) throw differs(report, tensor.getKey(), at / 4, got, wanted);
                    weights += count;
                } else {
                    trained.read(tensor.getKey(), wanted);
                    rest = Math.max(rest, difference(got, wanted, count));
                }
            }
        }
        return new Proof(weights, rest);
    }

    /** What the stored form of a lattice decodes to: steps in the target's precision (with minima they are already), but F32 where a whole tensor had to stay plain. */
    private static void exact(MemorySegment wanted, Lattice l, GgmlType type, Target target) {
        if (target.name().equals("hf") || type == GgmlType.F32 || l.minimum() && type != GgmlType.F16) {
            Frozen.weights(wanted, l, l.step());
        } else if (type == GgmlType.F16) {
            Frozen.weights(wanted, l, l.step());
            for (long i = 0; i < wanted.byteSize() / 4; i++) {
                float w = wanted.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                wanted.setAtIndex(ValueLayout.JAVA_FLOAT, i, Float.float16ToFloat(Float.floatToFloat16(w)));
            }
        } else if (type == GgmlType.Q4_1) {
            withMinimum(wanted, l);
        } else {
            Frozen.weights(wanted, l, HalfSteps.of(l, target.rule().half()).values());
        }
    }

    private static void withMinimum(MemorySegment wanted, Lattice l) {
        float[] d = HalfSteps.of(l, Half.FP16).values();
        int[] codes = new int[l.cols()];
        for (int r = 0; r < l.rows(); r++) {
            l.codes(codes, r);
            for (int i = 0; i < codes.length; i++) {
                int g = r * l.groups() + i / l.group();
                float m = Float.float16ToFloat(Float.floatToFloat16(-l.zero()[g] * d[g]));
                wanted.setAtIndex(ValueLayout.JAVA_FLOAT, (long) r * l.cols() + i, d[g] * codes[i] + m);
            }
        }
    }

    private static double difference(MemorySegment got, MemorySegment wanted, long count) {
        double most = 0, largest = Double.MIN_NORMAL;
        for (long i = 0; i < count; i++) {
            float a = got.getAtIndex(ValueLayout.JAVA_FLOAT, i), b = wanted.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            most = Math.max(most, Math.abs((double) a - b));
            largest = Math.max(largest, Math.abs(b));
        }
        return most / largest;
    }

    private static Fail differs(Report report, String tensor, long at, MemorySegment got, MemorySegment wanted) {
        return Fail.data("%s: weight %d of %s reads back as %s, expected %s; the file does not hold the trained model, do not use it", report.path(), at, tensor,
                got.getAtIndex(ValueLayout.JAVA_FLOAT, at), wanted.getAtIndex(ValueLayout.JAVA_FLOAT, at));
    }
}
