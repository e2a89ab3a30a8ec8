package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.tensor.DType;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Calls an op on a backend, every tensor between guard words, and reads what it gave. */
final class Bench {
    /** How a call is made: gradients written or added, some of them frozen, one in an input's memory, all memory shifted. */
    record Manner(boolean add, Set<String> frozen, boolean inPlace, int shift) {
        static final Manner WRITE = new Manner(false, Set.of(), false, 0);
        static final Manner ADD = new Manner(true, Set.of(), false, 0);
        static final Manner IN_PLACE = new Manner(false, Set.of(), true, 0);
        /** Every tensor begins one element off an aligned address, as a view of a row may. */
        static final Manner SHIFTED = new Manner(false, Set.of(), false, 1);

        static Manner frozen(Set<String> names) {
            return new Manner(false, names, false, 0);
        }
    }

    /** What stands before and behind every tensor. */
    private static final int GUARD = 256;
    private static final byte GUARD_BYTE = (byte) 0xA5;
    /** What stands in outputs before they are written: NaN as a float, −1 as an int. */
    private static final byte UNWRITTEN = (byte) 0xFF;

    /** A tensor on the device with its guards, and the bytes it was given. */
    private record Placed(String name, Tensor tensor, Tensor whole, byte[] before, boolean read, boolean written) {}

    private final Backend backend;
    private List<Placed> placed;

    Bench(Backend backend) {
        this.backend = backend;
    }

    Map<String, double[]> run(Case c) {
        return run(c, Manner.WRITE);
    }

    /** Every output by its name; a packed weight gives its words, step and zero. */
    Map<String, double[]> run(Case c, Manner manner) {
        placed = new ArrayList<>();
        try {
            Object[] args = c.args().stream().map(a -> argument(c, a, manner)).toArray();
            call(c, args);
            backend.sync();
            return results(c);
        } finally {
            placed.stream().map(Placed::whole).filter(w -> w != null).forEach(w -> backend.memory().free(w.address));
        }
    }

    private void call(Case c, Object[] args) {
        Method op = Arrays.stream(Backend.class.getMethods()).filter(m -> m.getName().equals(c.row().op)).findFirst()
                .orElseThrow(() -> new AssertionError("Backend has no op " + c.row().op));
        for (int i = 0; i < args.length; i++) assertEquals(op.getParameters()[i].getName(), c.args().get(i).name(), c + ": argument " + i);
        try {
            op.invoke(backend, args);
        } catch (InvocationTargetException e) {
            throw new AssertionError(c + " on " + backend.name() + " threw " + e.getCause(), e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(c + ": " + e, e);
        }
    }

    private Object argument(Case c, Arg a, Manner manner) {
        return switch (a) {
            case Arg.In in -> place(in.name(), in.asOperand() ? backend.operand() : DType.F32, in.values(), manner, true, false, in.dims());
            case Arg.Kept k -> place(k.name(), DType.F32, k.values(), manner, true, true, k.dims());
            case Arg.Ints n -> placeBytes(n.name(), DType.I32, bytes(n.values()), manner, true, false, n.dims());
            case Arg.Out o -> place(o.name(), o.type() == null ? backend.operand() : o.type(), null, manner, false, true, o.dims());
            case Arg.Scratch s -> place(s.name(), DType.F32, null, manner, false, false, s.dims());
            case Arg.Slope d -> gradient(c, d, manner);
            case Arg.Codes p -> packed(p, manner);
            case Arg.Fixed f -> f.value();
        };
    }

    private Grad gradient(Case c, Arg.Slope d, Manner manner) {
        if (manner.frozen.contains(d.name())) return Grad.NONE;
        if (manner.inPlace && c.row().inPlace.getFirst().equals(d.name())) {
            Arg.In shared = c.arg(c.row().inPlace.getLast());
            Tensor both = place(shared.name(), DType.F32, shared.values(), manner, false, false, shared.dims());
            placed.add(new Placed(d.name(), both, null, null, false, true));
            return new Grad(both, false);
        }
        float[] old = manner.add ? old(d) : null;
        return new Grad(place(d.name(), DType.F32, old, manner, false, true, d.dims()), manner.add);
    }

    /** What a gradient holds before it is added to. */
    static float[] old(Arg.Slope d) {
        return Values.normal("old " + d.name(), Values.count(d.dims()));
    }

    private PackedWeight packed(Arg.Codes p, Manner manner) {
        long groups = p.cols() / p.group();
        Tensor words = placeBytes(p.name() + ".words", DType.I32, p.out() ? null : bytes(p.words()), manner, !p.out(), p.out(), p.rows(), p.wordsPerRow());
        Tensor step = place(p.name() + ".step", DType.F32, p.out() ? null : p.step(), manner, !p.out(), p.out(), p.rows(), groups);
        Tensor zero = place(p.name() + ".zero", p.narrow() ? DType.U8 : DType.F32, p.out() ? null : p.zero(), manner, !p.out(), p.out(), p.rows(), groups);
        return new PackedWeight(p.name(), p.bits(), p.group(), p.cols(), words, step, zero, null, p.minimum());
    }

    private Tensor place(String name, DType type, float[] values, Manner manner, boolean read, boolean written, long... dims) {
        return placeBytes(name, type, values == null ? null : bytes(type, values), manner, read, written, dims);
    }

    private Tensor placeBytes(String name, DType type, byte[] bytes, Manner manner, boolean read, boolean written, long... dims) {
        for (Placed p : placed) if (p.name.equals(name)) return p.tensor;    // an input that shares its memory with a gradient
        int front = GUARD + manner.shift * type.bytes, size = Values.count(dims) * type.bytes;
        byte[] before = new byte[front + size + GUARD];
        Arrays.fill(before, GUARD_BYTE);
        if (bytes == null) Arrays.fill(before, front, front + size, UNWRITTEN);
        else System.arraycopy(bytes, 0, before, front, size);
        Tensor whole = backend.memory().tensor(name, DType.U8, before.length);
        backend.memory().write(whole, MemorySegment.ofArray(before));
        Tensor tensor = new Tensor(name, type, whole.address + front, dims);
        placed.add(new Placed(name, tensor, whole, before, read, written));
        return tensor;
    }

    private Map<String, double[]> results(Case c) {
        Map<String, double[]> out = new LinkedHashMap<>();
        for (Placed p : placed) {
            if (p.whole != null) checkSurroundings(c, p);
            if (p.written) out.put(p.name, doubles(p.tensor));
        }
        return out;
    }

    /** The guards stand; an input is as it was. */
    private void checkSurroundings(Case c, Placed p) {
        byte[] after = new byte[p.before.length];
        backend.memory().read(MemorySegment.ofArray(after), p.whole);
        String where = c + " on " + backend.name() + ": " + p.name;
        if (p.read && !p.written) {
            assertArrayEquals(p.before, after, where + ", which is only read, or its surroundings were changed");
        } else {
            int front = (int) (p.tensor.address - p.whole.address), end = front + (int) p.tensor.bytes();
            Arrays.fill(p.before, front, end, (byte) 0);
            Arrays.fill(after, front, end, (byte) 0);
            assertArrayEquals(p.before, after, where + " was written outside of itself");
        }
    }

    private double[] doubles(Tensor t) {
        if (t.type == DType.I32) return Arrays.stream(backend.memory().ints(t)).asDoubleStream().toArray();
        float[] f = backend.memory().floats(t);
        double[] d = new double[f.length];
        for (int i = 0; i < d.length; i++) d[i] = f[i];
        return d;
    }

    private static byte[] bytes(int[] values) {
        return MemorySegment.ofArray(values).toArray(ValueLayout.JAVA_BYTE);
    }

    private static byte[] bytes(DType type, float[] values) {
        if (type == DType.F32) return MemorySegment.ofArray(values).toArray(ValueLayout.JAVA_BYTE);
        if (type == DType.U8) {
            byte[] small = new byte[values.length];
            for (int i = 0; i < small.length; i++) small[i] = (byte) (int) values[i];
            return small;
        }
        short[] halves = new short[values.length];
        for (int i = 0; i < halves.length; i++) halves[i] = bf16(values[i]);
        return MemorySegment.ofArray(halves).toArray(ValueLayout.JAVA_BYTE);
    }

    /** The nearest of the two BF16 numbers around v, the even one of two equally near. */
    static short bf16(float v) {
        int bits = Float.floatToRawIntBits(v), cut = bits & 0xFFFF, kept = bits >>> 16;
        if (Float.isNaN(v)) return (short) 0x7FC0;
        return (short) (cut > 0x8000 || cut == 0x8000 && (kept & 1) == 1 ? kept + 1 : kept);
    }
}
