package dev.qat.cuda;

import dev.qat.cuda.Device.Lane;
import java.lang.foreign.MemorySegment;

/**
 * A ring of pinned slots through which small writes reach the device without holding the caller: a step's tokens and
 * hyper-parameters travel while the last step still computes, in order with it.
 */
final class Staging implements AutoCloseable {
    /** Bytes of the largest write that goes this way. */
    static final int SLOT = 64 << 10;
    private static final int SLOTS = 16;

    private final Device device;
    private final MemorySegment ring;
    /** Behind the last copy out of each slot; null before the first. */
    private final Device.Event[] taken = new Device.Event[SLOTS];
    private int next;

    Staging(Device device) {
        this.device = device;
        this.ring = device.pinned("small writes", (long) SLOT * SLOTS);
    }

    synchronized void write(long to, MemorySegment from) {
        int slot = next;
        next = (next + 1) % SLOTS;
        if (taken[slot] == null) taken[slot] = device.event();
        else if (!taken[slot].reached()) taken[slot].await();
        MemorySegment here = ring.asSlice((long) slot * SLOT, from.byteSize());
        here.copyFrom(from);
        device.upload(Lane.COMPUTE, to, here);
        taken[slot].record(Lane.COMPUTE);
    }

    @Override
    public synchronized void close() {
        for (Device.Event e : taken) if (e != null) e.close();
        device.unpin(ring);
    }
}
