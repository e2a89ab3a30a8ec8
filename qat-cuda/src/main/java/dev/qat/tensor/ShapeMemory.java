package dev.qat.tensor;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.LongStream;

/** Memory that is only counted: addresses without anything behind them, for plans made without touching a device. */
public final class ShapeMemory implements Memory {
    private final List<Slab> slabs = new ArrayList<>();
    private final List<Slab> onHost = new ArrayList<>();
    private final Map<String, Long> hostPeak = new TreeMap<>();
    private final long align;
    private final boolean apart;
    private long next;
    private long live, peak;
    private List<Slab> atPeak = List.of();

    /** @param align what the real device rounds every allocation up to, in bytes */
    public ShapeMemory(long align) {
        this(align, false);
    }

    /** @param apart whether the device that is meant has a memory other than the host's */
    public ShapeMemory(long align, boolean apart) {
        this.align = align;
        this.apart = apart;
        this.next = align;
    }

    @Override
    public long allocate(String owner, long bytes) {
        long address = next;
        next += (bytes + align - 1) / align * align;
        slabs.add(new Slab(owner, address, bytes));
        live += bytes;
        if (live > peak) {
            peak = live;
            atPeak = null;
        }
        return address;
    }

    @Override
    public long allocateOnHost(String owner, long bytes) {
        long address = next;
        next += (bytes + align - 1) / align * align;
        onHost.add(new Slab(owner, address, bytes));
        hostPeak.merge(owner, bytes, Math::max);
        return address;
    }

    @Override
    public boolean apart() {
        return apart;
    }

    /** The most bytes of the host that every owner had. */
    public Map<String, Long> hostPeak() {
        return hostPeak;
    }

    @Override
    public void free(long address) {
        if (onHost.removeIf(s -> s.address() == address)) return;
        Slab gone = slabs.stream().filter(s -> s.address() == address).findFirst()
                .orElseThrow(() -> Fail.internal("freed an address that was not allocated: %x", address));
        keepPeak();
        slabs.remove(gone);
        live -= gone.bytes();
    }

    @Override
    public List<Slab> slabs() {
        return List.copyOf(slabs);
    }

    private void keepPeak() {
        if (atPeak == null && live == peak) atPeak = List.copyOf(slabs);
    }

    /** Who held memory when most was held. */
    public List<Slab> peakSlabs() {
        keepPeak();
        return atPeak;
    }

    /** The most bytes that were held at one time. */
    public long peak() {
        return peak;
    }

    @Override
    public void write(Tensor to, MemorySegment from) {}

    @Override
    public void write(Tensor to, Pieces pieces) {}

    /** Nothing is carried; what it would hold is counted. */
    @Override
    public Shuttle shuttle(String owner, int berths, DType type, long... dims) {
        long[] held = apart ? LongStream.range(0, berths).map(_ -> tensor(owner, type, dims).address).toArray() : new long[0];
        return new HostShuttle(owner, () -> LongStream.of(held).forEach(this::free), type, dims);
    }

    /** Nothing is carried; what it would hold is counted. */
    @Override
    public Stowage stowage(String owner, long bytes, long each) {
        Arena arena = Arena.onHost(this, owner, bytes);
        long[] held = apart ? LongStream.range(0, 2).map(_ -> tensor(owner, DType.U8, each).address).toArray() : new long[0];
        return new HostStowage(arena, () -> {
            LongStream.of(held).forEach(this::free);
            free(arena.base());
        });
    }

    @Override
    public void read(MemorySegment to, Tensor from) {
        to.fill((byte) 0);
    }
}
