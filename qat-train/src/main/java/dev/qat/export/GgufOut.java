package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.data.GgufWriter;
import dev.qat.data.GgufWriter.Slot;
import dev.qat.export.Report.Moved;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes a GGUF file for llama.cpp: trained codes into blocks as they are, norms and biases as F32, embedding and head by
 * choice. Two passes over the linears, one in memory at a time: the first refuses and announces, the second writes.
 *
 * <p>With {@code requantize}, linears are rounded again to the target instead, and the report says what moved.
 */
final class GgufOut implements Exporter {
    static final String ROPE = "rope_freqs.weight";
    private static final double HALF = 1.0 / 1024; // more than a step's rounding to fp16 explains
    private static final int BUFFER = 1 << 20; // bytes written at a time, where rows are shorter

    /** Rounds a row of a linear to a type's blocks.   raw (rowBytes) from row (I) */
    interface Rounder {
        byte[] blocks(GgmlType type, float[] row);
    }

    private final GgmlType target, ends;
    private final boolean requantize;
    private final Rounder rounder;

    /** @param ends of the embedding and the head */
    GgufOut(GgmlType target, GgmlType ends, boolean requantize) {
        this(target, ends, requantize, GgufOut::ours);
    }

    /** @param rounder who rounds linears that are to be rounded again */
    GgufOut(GgmlType target, GgmlType ends, boolean requantize, Rounder rounder) {
        this.target = target;
        this.ends = ends;
        this.requantize = requantize;
        this.rounder = rounder;
    }

    private static byte[] ours(GgmlType type, float[] row) {
        byte[] raw = new byte[(int) type.rowBytes(row.length)];
        for (int e = 0, b = 0; e < row.length; e += type.elements, b += type.bytes) type.round(raw, b, row, e);
        return raw;
    }

    /** What becomes of a tensor: its name in the model, its place in the file. */
    private record Job(String name, Slot slot) {}

    @Override
    public boolean directory() {
        return false;
    }

    @Override
    public Report write(Path path, Frozen model) {
        ModelConfig c = model.config();
        Configs.refuseOnline(c, "target gguf:" + target.label());
        if (target.codes() && !requantize && model.quantized().isEmpty()) {
            throw Fail.usage("target gguf:%s: the model has no trained codes; write gguf:f16, or round it with --requantize", target.label());
        }
        if (requantize && !target.rounds()) throw Fail.usage("gguf:%s is written from codes trained for it, not by rounding; leave --requantize out", target.label());
        List<Job> jobs = new ArrayList<>();
        Map<String, Integer> falls = new LinkedHashMap<>();
        GgufNames.architecture(c);
        model.shapes().forEach((name, shape) -> jobs.add(new Job(name, slot(model, name, shape, falls))));
        List<Slot> slots = new ArrayList<>();
        float[] rope = GgufMetadata.ropeFactors(c);
        if (rope != null) slots.add(new Slot(ROPE, GgmlType.F32, rope.length));
        jobs.forEach(j -> slots.add(j.slot));
        List<String> remarks = new ArrayList<>(Configs.rounding(model.configJson(), false));
        falls.forEach((what, count) -> remarks.add("%d %s stored as %s".formatted(count, count == 1 ? "tensor is" : "tensors are", what)));
        var metadata = GgufMetadata.of(model, target, remarks);
        Tally tally = new Tally();
        try (GgufWriter out = GgufWriter.open(path, metadata, slots)) {
            if (rope != null) out.write(ROPE, MemorySegment.ofArray(rope));
            for (Job j : jobs) write(out, model, j, tally);
            out.finish();
        }
        return tally.report(path, slots, remarks);
    }

    private Slot slot(Frozen model, String name, long[] shape, Map<String, Integer> falls) {
        String linear = Configs.linear(name);
        int cols = (int) shape[shape.length - 1];
        GgmlType type;
        if (shape.length == 1) type = GgmlType.F32;
        else if (linear.isEmpty()) type = largestFor(target == GgmlType.F32 ? target : ends, cols);
        else if (exact(model, linear)) {
            Lattice l = model.lattice(linear);
            type = GgufFit.type(target, l, GgufFit.numbers(l));
        } else if (target.codes() && requantize && target.rounds()) type = largestFor(target, cols);
        else type = target.codes() ? GgmlType.F16 : target;
        GgmlType wanted = linear.isEmpty() ? ends : target;
        if (shape.length == 2 && type != wanted && target != GgmlType.F32) {
            boolean plain = !linear.isEmpty() && !model.quantized().contains(linear) && !requantize;
            String why = plain ? "they were not quantized" : "rows of %d are no multiple of %d".formatted(cols, wanted.elements);
            falls.merge("%s instead of %s: %s".formatted(type, wanted, why), 1, Integer::sum);
        }
        return shape.length == 1 ? new Slot(GgufNames.of(name), type, shape[0]) : new Slot(GgufNames.of(name), type, cols, shape[0]);
    }

    private boolean exact(Frozen model, String linear) {
        return target.codes() && !requantize && model.quantized().contains(linear);
    }

    /** The type, or the nearest larger one whose blocks divide a row. */
    private static GgmlType largestFor(GgmlType type, int cols) {
        if (cols % type.elements == 0) return type;
        return cols % GgmlType.Q8_0.elements == 0 ? GgmlType.Q8_0 : GgmlType.F16;
    }

    private void write(GgufWriter out, Frozen model, Job j, Tally tally) {
        String linear = Configs.linear(j.name);
        if (exact(model, linear)) {
            Lattice l = model.lattice(linear);
            if (j.slot.type() == GgmlType.F32) plain(out, model, j, l, tally);
            else if (j.slot.type() == GgmlType.Q2_K) twoLevels(out, model.config(), j, l);
            else codes(out, model.config(), j, l, HalfSteps.of(l, Half.FP16), tally);
        } else {
            plain(out, model, j, null, tally);
        }
        if (!linear.isEmpty()) tally.linear(j.slot);
    }

    private void codes(GgufWriter out, ModelConfig c, Job j, Lattice l, HalfSteps steps, Tally tally) {
        GgmlType type = j.slot.type();
        int turned = GgufNames.turned(c, j.name), perRow = (int) type.rowBytes(l.cols());
        int atOnce = Math.clamp(BUFFER / perRow, 1, l.rows());
        byte[] raw = new byte[atOnce * perRow];
        int[] q = new int[l.cols()];
        tally.maxScaleMove = Math.max(tally.maxScaleMove, steps.maxMove());
        for (int at = 0; at < l.rows(); at += atOnce) {
            int rows = Math.min(atOnce, l.rows() - at);
            for (int i = 0; i < rows; i++) {
                int row = GgufNames.source(at + i, l.rows(), turned);
                if (type == GgmlType.Q4_1) l.codes(q, row);
                else l.whole(q, row);
                for (int b = 0; b < l.cols() / type.elements; b++) {
                    int group = row * l.groups() + b * type.elements / l.group();
                    short m = type != GgmlType.Q4_1 ? 0 : l.minimum() ? Float.floatToFloat16(l.zero()[group]) : minimum(l.zero()[group], steps.values()[group], tally);
                    type.encode(raw, i * perRow + b * type.bytes, q, b * type.elements, steps.bits()[group], m);
                }
            }
            out.write(j.slot.name(), MemorySegment.ofArray(raw).asSlice(0, (long) rows * perRow));
        }
    }

    /** Blocks of Q2_K: codes, and the 4-bit codes that steps and minima are made of. */
    private void twoLevels(GgufWriter out, ModelConfig c, Job j, Lattice l) {
        TwoLevels steps = TwoLevels.steps(l), minima = TwoLevels.minima(l);
        int turned = GgufNames.turned(c, j.name), blocks = l.cols() / GgmlType.Q2_K.elements;
        int[] q = new int[l.cols()];
        byte[] raw = new byte[Math.toIntExact((long) l.rows() * blocks * GgmlType.Q2_K.bytes)];
        for (int i = 0, at = 0; i < l.rows(); i++) {
            int row = GgufNames.source(i, l.rows(), turned);
            l.codes(q, row);
            for (int b = row * blocks, e = 0; e < l.cols(); b++, e += GgmlType.Q2_K.elements, at += GgmlType.Q2_K.bytes) {
                GgmlType.encodeTwoLevels(raw, at, steps.block(b), minima.block(b), q, e, steps.d()[b], minima.d()[b]);
            }
        }
        out.write(j.slot.name(), MemorySegment.ofArray(raw));
    }

    /** Q4_1's m = fp16(−zero · d). */
    static short minimum(float zero, float d, Tally tally) {
        short m = Float.floatToFloat16(-zero * d);
        if (tally != null && d != 0) tally.maxOffsetMove = Math.max(tally.maxOffsetMove, Math.abs((Float.float16ToFloat(m) + (double) zero * d) / d));
        return m;
    }

    /** A tensor from its values, rounded to the slot's type; {@code l} for a lattice that no block type holds. */
    private void plain(GgufWriter out, Frozen model, Job j, Lattice l, Tally tally) {
        GgmlType type = j.slot.type();
        int cols = (int) j.slot.ne()[0], rows = (int) (j.slot.count() / cols), turned = GgufNames.turned(model.config(), j.name);
        boolean vector = j.slot.ne().length == 1, linear = !Configs.linear(j.name).isEmpty(); // rows of a vector are its elements
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment floats = arena.allocate(4 * j.slot.count(), 64);
            if (l != null) Frozen.weights(floats, l, l.step());
            else model.read(j.name, floats);
            if (vector) rows = cols;
            int width = vector ? 1 : cols, perRow = (int) type.rowBytes(width);
            int atOnce = Math.clamp(BUFFER / perRow, 1, rows);
            byte[] raw = new byte[atOnce * perRow];
            float[] row = new float[width], back = new float[width];
            for (int i = 0; i < rows; i++) {
                MemorySegment.copy(floats, ValueLayout.JAVA_FLOAT, 4L * width * GgufNames.source(i, rows, turned), row, 0, width);
                int start = i % atOnce * perRow;
                byte[] blocks = linear && type.lattice() ? rounder.blocks(type, row) : ours(type, row);
                System.arraycopy(blocks, 0, raw, start, perRow);
                for (int e = 0, b = 0; e < width; e += type.elements, b += type.bytes) type.decode(back, e, blocks, b);
                tally.rounded(j.name, row, back);
                if (i % atOnce == atOnce - 1 || i == rows - 1) out.write(j.slot.name(), MemorySegment.ofArray(raw).asSlice(0, start + perRow));
            }
        }
    }

    /** What the report counts while tensors are written. */
    final class Tally {
        double maxScaleMove, maxOffsetMove;
        private double moved, weights, change, size, linearBits, linearCount;

        void rounded(String name, float[] row, float[] back) {
            for (int i = 0; i < row.length; i++) {
                if (!Float.isFinite(back[i])) throw Fail.data("%s holds %s, which the type chosen for it cannot; choose a wider one", name, row[i]);
            }
            if (!requantize || Configs.linear(name).isEmpty()) return;
            weights += row.length;
            for (int i = 0; i < row.length; i++) {
                if (Math.abs(row[i] - back[i]) > HALF * Math.abs(row[i])) moved++;
                change += ((double) row[i] - back[i]) * (row[i] - back[i]);
                size += (double) row[i] * row[i];
            }
        }

        void linear(Slot s) {
            linearBits += 8.0 * s.bytes();
            linearCount += s.count();
        }

        Report report(Path path, List<Slot> slots, List<String> remarks) {
            List<Report.Stored> stored = new ArrayList<>();
            long bytes = 0;
            for (Slot s : slots) {
                stored.add(new Report.Stored(s.name(), s.type().name(), s.count(), s.bytes()));
                bytes += s.bytes();
            }
            Moved m = requantize && weights > 0 ? new Moved(moved / weights, Math.sqrt(change / Math.max(size, Double.MIN_NORMAL))) : null;
            return new Report("gguf:" + target.label(), path, bytes, linearBits / linearCount, maxScaleMove, maxOffsetMove, m, stored, List.copyOf(remarks));
        }
    }
}
