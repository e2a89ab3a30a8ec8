package dev.qat.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Off-heap memory of the machine itself, 64-byte aligned and zeroed, so that products and vector loops need no copies. */
public final class HostMemory implements Memory {
    /** All of the address space as one segment: bounds are the op's promise, kept by the contract suite's guard words. */
    public static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);

    /** What is given back when a slab is freed: an arena, or mapped pages. */
    private record Held(Slab slab, Runnable release) {}

    private final Map<Long, Held> held = new LinkedHashMap<>();

    @Override
    public synchronized long allocate(String owner, long bytes) {
        long address = bytes >= Pages.HUGE && Pages.available() ? mapped(owner, bytes) : inArena(owner, bytes);
        if (address != 0) return address;
        throw Fail.device("no memory for %s: %,d bytes wanted, %,d held already. Use a smaller batch, length or block, or a machine with more memory.",
                owner, bytes, held.values().stream().mapToLong(h -> h.slab.bytes()).sum());
    }

    private long mapped(String owner, long bytes) {
        long start = Pages.map(bytes);
        if (start == 0) return 0;
        long address = (start + Pages.HUGE - 1) / Pages.HUGE * Pages.HUGE;
        held.put(address, new Held(new Slab(owner, address, bytes), () -> Pages.unmap(start, bytes)));
        return address;
    }

    private long inArena(String owner, long bytes) {
        var arena = java.lang.foreign.Arena.ofShared();
        try {
            long address = arena.allocate(bytes, 64).address();
            held.put(address, new Held(new Slab(owner, address, bytes), arena::close));
            return address;
        } catch (OutOfMemoryError e) {
            arena.close();
            return 0;
        }
    }

    @Override
    public synchronized void free(long address) {
        Held h = held.remove(address);
        Fail.unless(h != null, "freed an address that was not allocated: %x", address);
        h.release.run();
    }

    @Override
    public synchronized List<Slab> slabs() {
        return new ArrayList<>(held.values().stream().map(Held::slab).toList());
    }

    @Override
    public void write(Tensor to, MemorySegment from) {
        Fail.unless(from.byteSize() == to.bytes(), "%s takes %d bytes, got %d", to, to.bytes(), from.byteSize());
        MemorySegment.copy(from, 0, ALL, to.address, to.bytes());
    }

    @Override
    public void write(Tensor to, Pieces pieces) {
        pieces.put(ALL.asSlice(to.address, to.bytes()), 0);
    }

    @Override
    public void read(MemorySegment to, Tensor from) {
        Fail.unless(to.byteSize() == from.bytes(), "%s gives %d bytes, asked for %d", from, from.bytes(), to.byteSize());
        MemorySegment.copy(ALL, from.address, to, 0, from.bytes());
    }

    /** Element i of an fp32 tensor of this memory. */
    public static float get(Tensor x, long i) {
        return ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, x.address + 4 * i);
    }

    public static void put(Tensor x, long i, float v) {
        ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, x.address + 4 * i, v);
    }

    public static int getInt(Tensor x, long i) {
        return ALL.get(ValueLayout.JAVA_INT_UNALIGNED, x.address + 4 * i);
    }

    public static void putInt(Tensor x, long i, int v) {
        ALL.set(ValueLayout.JAVA_INT_UNALIGNED, x.address + 4 * i, v);
    }
}
