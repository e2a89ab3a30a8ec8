package dev.qat.train;

import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import dev.qat.train.Checkpoints.Piece;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A host copy of what an optimizer trains, taken between two steps, so that writing it need not hold the next one. */
final class Snapshot implements AutoCloseable {
    private static final String VALUE = "value.", MEAN = "mean.", SQUARE = "square.";

    private final Arena arena = Arena.ofShared();
    private final List<Piece> pieces = new ArrayList<>();

    private Snapshot() {}

    /** Values alone. */
    static Snapshot ofValues(Memory memory, AdamW adam) {
        Snapshot s = new Snapshot();
        for (AdamW.State p : adam.state()) s.copy(memory, VALUE + p.param().name(), p.param().value());
        return s;
    }

    /** Values and both moments. */
    static Snapshot of(Memory memory, AdamW adam) {
        Snapshot s = ofValues(memory, adam);
        for (AdamW.State p : adam.state()) {
            s.copy(memory, MEAN + p.param().name(), p.mean());
            s.copy(memory, SQUARE + p.param().name(), p.square());
        }
        return s;
    }

    private void copy(Memory memory, String name, Tensor from) {
        MemorySegment to = arena.allocate(Math.max(1, from.bytes()), 64).asSlice(0, from.bytes());
        memory.read(to, from);
        pieces.add(new Piece(new Slot(name, StoredType.F32, from.dims()), to));
    }

    List<Piece> pieces() {
        return pieces;
    }

    /** Puts the values back that were copied from this optimizer. */
    void restoreValues(Memory memory, AdamW adam) {
        int i = 0;
        for (AdamW.State p : adam.state()) memory.write(p.param().value(), pieces.get(i++).bytes());
    }

    /** Values from a stored file, and the moments too where {@code moments}. */
    static void restore(Memory memory, AdamW adam, Safetensors file, boolean moments) {
        for (AdamW.State p : adam.state()) {
            put(memory, p.param().value(), file, VALUE + p.param().name());
            if (!moments) continue;
            put(memory, p.mean(), file, MEAN + p.param().name());
            put(memory, p.square(), file, SQUARE + p.param().name());
        }
    }

    private static void put(Memory memory, Tensor to, Safetensors file, String name) {
        long[] shape = file.entry(name).shape();
        if (!Arrays.equals(shape, to.dims())) {
            throw Fail.internal("%s: %s has the shape %s, expected %s", file.file(), name, Arrays.toString(shape), Arrays.toString(to.dims()));
        }
        memory.write(to, file.bytes(name));
    }

    @Override
    public void close() {
        arena.close();
    }
}
