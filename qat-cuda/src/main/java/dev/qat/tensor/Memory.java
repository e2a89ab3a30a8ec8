package dev.qat.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** A device's memory: named slabs handed out once, and copies between them and the host. */
public interface Memory {
    /** Reserves {@code bytes} under a name that the table of owners shows; 64-byte aligned on the host, 256 on a GPU. */
    long allocate(String owner, long bytes);

    void free(long address);

    /**
     * The same on the host, where the device's kernels reach it across the bus: for what is touched once a step and would crowd
     * the device. A host's own memory makes no difference.
     */
    default long allocateOnHost(String owner, long bytes) {
        return allocate(owner, bytes);
    }

    /** Whether this is another memory than the host's, so that what it is to hold has a way to go. */
    default boolean apart() {
        return false;
    }

    /** Who holds what, in order of allocation. */
    java.util.List<Slab> slabs();

    void write(Tensor to, MemorySegment from);

    void read(MemorySegment to, Tensor from);

    /** What a tensor is to hold, asked for in pieces: {@code piece} takes the bytes from {@code at} on. */
    @FunctionalInterface
    interface Pieces {
        void put(MemorySegment piece, long at);
    }

    /** Writes a tensor whose bytes are made on the way, with no second copy of it on the host. */
    void write(Tensor to, Pieces pieces);

    /** A way for tensors of one shape beside the computation, with room for so many at a time. */
    default Shuttle shuttle(String owner, int berths, DType type, long... dims) {
        return new HostShuttle(owner, () -> {}, type, dims);
    }

    /** A stowage for {@code bytes} in all, in tensors of at most {@code each}. */
    default Stowage stowage(String owner, long bytes, long each) {
        Arena arena = Arena.onHost(this, owner, bytes);
        return new HostStowage(arena, () -> free(arena.base()));
    }

    /** Notes of these tensors, of one float each; at most {@code room} of them are made and not read. */
    default Notes notes(int room, Tensor... of) {
        return new HostNotes(this, of);
    }

    record Slab(String owner, long address, long bytes) {}

    /** A tensor with memory of its own, outside every arena. */
    default Tensor tensor(String name, DType type, long... dims) {
        Tensor shape = new Tensor(name, type, 0, dims);
        return new Tensor(name, type, allocate(name, Math.max(shape.bytes(), 1)), dims);
    }

    default Tensor tensor(String name, long... dims) {
        return tensor(name, DType.F32, dims);
    }

    default void set(Tensor to, float... values) {
        Fail.unless(to.type == DType.F32 && to.size() == values.length, "%s takes %d floats, got %d", to, to.size(), values.length);
        write(to, MemorySegment.ofArray(values));
    }

    default void set(Tensor to, int... values) {
        Fail.unless(to.type == DType.I32 && to.size() == values.length, "%s takes %d ints, got %d", to, to.size(), values.length);
        write(to, MemorySegment.ofArray(values));
    }

    default float[] floats(Tensor from) {
        byte[] raw = raw(from);
        float[] out = new float[Math.toIntExact(from.size())];
        MemorySegment s = MemorySegment.ofArray(raw);
        for (int i = 0; i < out.length; i++) {
            out[i] = switch (from.type) {
                case F32 -> s.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                case BF16 -> Float.intBitsToFloat(s.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i) << 16);
                case I32 -> s.get(ValueLayout.JAVA_INT_UNALIGNED, 4L * i);
                case U8 -> Byte.toUnsignedInt(raw[i]);
            };
        }
        return out;
    }

    default int[] ints(Tensor from) {
        Fail.unless(from.type == DType.I32, "%s holds no ints", from);
        return MemorySegment.ofArray(raw(from)).toArray(ValueLayout.JAVA_INT_UNALIGNED);
    }

    private byte[] raw(Tensor from) {
        byte[] raw = new byte[Math.toIntExact(from.bytes())];
        read(MemorySegment.ofArray(raw), from);
        return raw;
    }
}
