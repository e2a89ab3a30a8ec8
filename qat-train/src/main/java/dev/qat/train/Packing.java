package dev.qat.train;

import dev.qat.export.Lattice;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Codes that are made block by block: on the host until all are there, so that the device holds those of one block at a time;
 * then in the device's memory side by side, so that all steps train in one pass.
 */
public final class Packing implements AutoCloseable {
    /** The codes of one linear on the host; the tensors of {@code shape} are gone. */
    private record Parked(Linear linear, PackedWeight shape, MemorySegment words, MemorySegment step, MemorySegment zero) {}

    private final Run run;
    private final Memory memory;
    private final Arena host = Arena.ofShared();
    private final List<Parked> parked = new ArrayList<>();
    private long bytes;

    public Packing(Run run) {
        this.run = run;
        this.memory = run.backend().memory();
    }

    /** Moves the codes in use to the host; the linears that had them have none from here on. */
    public void park() {
        run.packed().forEach((linear, p) -> parked.add(new Parked(linear, p, copy(p.words()), copy(p.step()), p.minimum() ? copy(p.zero()) : bytes(p.zero()))));
        run.forget();
    }

    /** Takes in codes that were there before the run. */
    void adopt(Linear linear, Lattice l) {
        Tensor words = shape(l.name() + ".codes", DType.I32, l.rows(), l.words().length / l.rows()), step = shape(l.name() + ".step", DType.F32, l.rows(), l.groups());
        PackedWeight p = new PackedWeight(l.name(), l.bits(), l.group(), l.cols(), words, step, shape(l.name() + ".zero", DType.F32, step.dims()), null, l.minimum());
        parked.add(new Parked(linear, p, copy(words, MemorySegment.ofArray(l.words())),
                copy(step, MemorySegment.ofArray(l.step())), copy(narrow(p), l.minimum() ? MemorySegment.ofArray(l.zero()) : bytes(l.zero()))));
    }

    private static MemorySegment bytes(float[] wholes) {
        byte[] narrow = new byte[wholes.length];
        for (int i = 0; i < narrow.length; i++) narrow[i] = (byte) (int) wholes[i];
        return MemorySegment.ofArray(narrow);
    }

    private static Tensor shape(String name, DType type, long... dims) {
        return new Tensor(name, type, 0, dims);
    }

    private MemorySegment copy(Tensor t, MemorySegment from) {
        bytes += t.bytes();
        return run.planned() ? MemorySegment.NULL : host.allocate(t.bytes(), 64).copyFrom(from);
    }

    private MemorySegment copy(Tensor t) {
        bytes += t.bytes();
        if (run.planned()) return MemorySegment.NULL;
        MemorySegment s = host.allocate(t.bytes(), 64);
        memory.read(s, t);
        return s;
    }

    /** Whole numbers below 256, one byte each. */
    private MemorySegment bytes(Tensor zeros) {
        if (zeros.type == DType.U8) return copy(zeros);
        bytes += zeros.size();
        return run.planned() ? MemorySegment.NULL : host.allocate(zeros.size()).copyFrom(bytes(memory.floats(zeros)));
    }

    private static Tensor narrow(PackedWeight p) {
        return p.minimum() ? p.zero() : new Tensor(p.zero().name, DType.U8, 0, p.zero().dims());
    }

    /** Brings all codes back and puts them to use. */
    public void use() {
        List<Long> slabs = new ArrayList<>();
        List<Tensor> words = place("codes", slabs, p -> p.shape.words()), steps = place("steps", slabs, p -> p.shape.step());
        List<Tensor> zeros = place("zero points", slabs, p -> narrow(p.shape));
        List<Linear> linears = new ArrayList<>();
        List<PackedWeight> codes = new ArrayList<>();
        for (int i = 0; i < parked.size(); i++) {
            Parked p = parked.get(i);
            memory.write(words.get(i), p.words);
            memory.write(steps.get(i), p.step);
            memory.write(zeros.get(i), p.zero);
            linears.add(p.linear);
            codes.add(p.shape.at(words.get(i), steps.get(i), zeros.get(i)));
        }
        run.use(linears, codes, slabs);
        if (run.planned()) run.plan().host("codes of finished blocks", bytes);
    }

    private List<Tensor> place(String owner, List<Long> slabs, java.util.function.Function<Parked, Tensor> part) {
        List<Tensor> placed = Slab.of(memory, owner, slab -> parked.stream().map(part).map(t -> slab.tensor(t.name, t.type, t.dims())).toList());
        slabs.add(placed.getFirst().address);
        return placed;
    }

    @Override
    public void close() {
        host.close();
    }
}
