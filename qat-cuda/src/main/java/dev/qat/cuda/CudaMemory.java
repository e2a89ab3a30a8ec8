package dev.qat.cuda;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Notes;
import dev.qat.tensor.Shuttle;
import dev.qat.tensor.Stowage;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;

/** A device's memory as tensors see it. Writes travel behind their caller (see {@link Staging}); reads wait for what was asked before. */
final class CudaMemory implements Memory, AutoCloseable {
    private final Device device;
    private final Staging staging;
    private final NavigableMap<Long, MemorySegment> pinned = new TreeMap<>();
    /** While a step is being captured: its writes would be lost, since a replay repeats only what the device does. */
    private boolean capturing;

    CudaMemory(Device device) {
        this.device = device;
        this.staging = new Staging(device);
    }

    /** Full memory is an error that shows who holds what and the recipe's keys that change it. */
    @Override
    public long allocate(String owner, long bytes) {
        try {
            return device.alloc(owner, bytes);
        } catch (Fail e) {
            if (e.code() != Fail.DEVICE || device.room().free() >= bytes) throw e;
            throw Fail.device("%s%nIn the recipe, recompute: true, a smaller batch or data.length, for e2e-qp accumulate, offload: true "
                    + "and stow: true, and for the evaluation a smaller eval.batch, need less.", e.getMessage());
        }
    }

    /** Pinned: one address for host and device. */
    @Override
    public synchronized long allocateOnHost(String owner, long bytes) {
        MemorySegment p = device.pinned(owner, bytes);
        pinned.put(p.address(), p);
        return p.address();
    }

    @Override
    public boolean apart() {
        return true;
    }

    @Override
    public synchronized void free(long address) {
        MemorySegment p = pinned.remove(address);
        if (p == null) {
            device.free(address);
            return;
        }
        device.sync();
        device.unpin(p);
    }

    @Override
    public List<Slab> slabs() {
        return device.slabs();
    }

    @Override
    public void write(Tensor to, MemorySegment from) {
        Fail.unless(from.byteSize() == to.bytes(), "%s takes %d bytes, got %d", to, to.bytes(), from.byteSize());
        write(to, (piece, at) -> MemorySegment.copy(from, at, piece, 0, piece.byteSize()));
    }

    @Override
    public void write(Tensor to, Pieces pieces) {
        Fail.unless(!capturing, "%s was written from the host inside a captured step; write it before the step", to);
        MemorySegment here = onHost(to);
        if (here != null) pieces.put(here, 0);
        else staging.write(to.address, to.bytes(), pieces);
    }

    @Override
    public Shuttle shuttle(String owner, int berths, DType type, long... dims) {
        return new CudaShuttle(device, this, owner, berths, type, dims);
    }

    @Override
    public Stowage stowage(String owner, long bytes, long each) {
        return new CudaStowage(device, this, owner, bytes, each);
    }

    @Override
    public Notes notes(int room, Tensor... of) {
        return new CudaNotes(device, room, of);
    }

    @Override
    public void read(MemorySegment to, Tensor from) {
        Fail.unless(to.byteSize() == from.bytes(), "%s gives %d bytes, asked for %d", from, from.bytes(), to.byteSize());
        Fail.unless(!capturing, "%s was read by the host inside a captured step; read it after the step", from);
        MemorySegment here = onHost(from);
        if (here != null) to.copyFrom(here);
        else device.download(to, from.address);
    }

    /** The bytes of a tensor that lies in pinned memory, when no kernel works on them any more; null for one on the device. */
    private synchronized MemorySegment onHost(Tensor t) {
        Map.Entry<Long, MemorySegment> below = pinned.floorEntry(t.address);
        if (below == null || t.address + t.bytes() > below.getKey() + below.getValue().byteSize()) return null;
        device.sync();
        return below.getValue().asSlice(t.address - below.getKey(), t.bytes());
    }

    void capturing(boolean now) {
        capturing = now;
    }

    @Override
    public void close() {
        staging.close();
    }
}
