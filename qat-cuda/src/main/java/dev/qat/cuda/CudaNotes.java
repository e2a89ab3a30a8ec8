package dev.qat.cuda;

import dev.qat.cuda.Device.Event;
import dev.qat.cuda.Device.Lane;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Notes;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** {@link Notes} in a ring of pinned memory: copies on the compute lane, each with a mark behind it. */
final class CudaNotes implements Notes {
    private final Device device;
    private final Tensor[] of;
    private final MemorySegment ring;      // (room, tensors)
    private final Event[] made;
    /** Notes made and read so far. */
    private long makes, reads;

    CudaNotes(Device device, int room, Tensor[] of) {
        this.device = device;
        this.of = of;
        ring = device.pinned("numbers of a step", 4L * room * of.length);
        made = new Event[room];
        for (int i = 0; i < room; i++) made[i] = device.event();
    }

    @Override
    public void make() {
        Fail.unless(makes - reads < made.length, "%d notes are not read yet, and there is room for no more", made.length);
        int at = (int) (makes++ % made.length);
        for (int i = 0; i < of.length; i++) device.download(Lane.COMPUTE, ring.asSlice(4L * (at * of.length + i), 4), of[i].address);
        made[at].record(Lane.COMPUTE);
    }

    @Override
    public boolean ready() {
        return reads < makes && made[(int) (reads % made.length)].reached();
    }

    @Override
    public float[] read() {
        Fail.unless(reads < makes, "all notes are read");
        int at = (int) (reads++ % made.length);
        made[at].await();
        return ring.asSlice(4L * at * of.length, 4L * of.length).toArray(ValueLayout.JAVA_FLOAT);
    }

    @Override
    public void forget() {
        reads = makes;
    }

    @Override
    public void close() {
        device.sync();
        for (Event e : made) e.close();
        device.unpin(ring);
    }
}
