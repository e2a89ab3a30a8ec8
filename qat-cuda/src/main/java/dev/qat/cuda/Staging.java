package dev.qat.cuda;

import dev.qat.cuda.Device.Lane;
import dev.qat.tensor.Memory.Pieces;
import java.lang.foreign.MemorySegment;

/**
 * Pinned memory through which writes reach the device without holding the caller, in order with the computation. Small ones take
 * a slot of a ring: a step's tokens and hyper-parameters travel while the last step still computes. Large ones, such as a block's
 * weights, go in pieces through two halves: one is filled while the other travels.
 */
final class Staging implements AutoCloseable {
    /** Bytes of the largest write that takes a slot, and of a half. */
    static final int SLOT = 64 << 10, HALF = 8 << 20;
    private static final int SLOTS = 16, HALVES = 2;

    private final Device device;
    private final Ring slots, halves;
    /** Behind the computation that a large write must wait for, and behind the write that the computation must. */
    private Device.Event before, after;

    /** Pieces of pinned memory that are used in turn, made when the first is asked for. */
    private final class Ring {
        private final String name;
        private final int bytes, count;
        private MemorySegment all;
        /** Behind the last copy out of each piece; null before the first. */
        private final Device.Event[] taken;
        private int next;

        Ring(String name, int bytes, int count) {
            this.name = name;
            this.bytes = bytes;
            this.count = count;
            taken = new Device.Event[count];
        }

        void write(Lane lane, long to, long at, long length, Pieces pieces) {
            if (all == null) all = device.pinned(name, (long) bytes * count);
            int i = next;
            next = (next + 1) % count;
            if (taken[i] == null) taken[i] = device.event();
            else if (!taken[i].reached()) taken[i].await();
            MemorySegment here = all.asSlice((long) i * bytes, length);
            pieces.put(here, at);
            device.upload(lane, to + at, here);
            taken[i].record(lane);
        }

        void close() {
            for (Device.Event e : taken) if (e != null) e.close();
            if (all != null) device.unpin(all);
        }
    }

    Staging(Device device) {
        this.device = device;
        slots = new Ring("small writes", SLOT, SLOTS);
        halves = new Ring("large writes", HALF, HALVES);
    }

    synchronized void write(long to, long bytes, Pieces pieces) {
        if (bytes <= SLOT) {
            if (bytes > 0) slots.write(Lane.COMPUTE, to, 0, bytes, pieces);
            return;
        }
        if (before == null) {
            before = device.event();
            after = device.event();
        }
        before.record(Lane.COMPUTE);
        before.hold(Lane.UPLOAD);
        for (long at = 0; at < bytes; at += HALF) halves.write(Lane.UPLOAD, to, at, Math.min(HALF, bytes - at), pieces);
        after.record(Lane.UPLOAD);
        after.hold(Lane.COMPUTE);
    }

    @Override
    public synchronized void close() {
        slots.close();
        halves.close();
        if (before == null) return;
        before.close();
        after.close();
    }
}
