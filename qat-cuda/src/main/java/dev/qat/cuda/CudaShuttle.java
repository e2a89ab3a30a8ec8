package dev.qat.cuda;

import dev.qat.cuda.Device.Event;
import dev.qat.cuda.Device.Lane;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Shuttle;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.Map;

/**
 * A {@link Shuttle} on the lanes of a device: a ring of tensors, each with two marks. {@code full} lies behind whatever fills a
 * berth and holds back what empties it; {@code empty} lies behind what emptied it and holds back what fills it next.
 */
final class CudaShuttle implements Shuttle {
    private final Device device;
    private final Memory memory;
    private final Tensor[] berths;
    private final Event[] full, empty;
    private final boolean[] busy;
    /** Where what is on its way to the device came from, and its berth. */
    private final Map<Long, Integer> sent = new HashMap<>();
    private int last = -1, taking = -1, giving = -1;
    private MemorySegment to;

    CudaShuttle(Device device, Memory memory, String owner, int berths, DType type, long... dims) {
        this.device = device;
        this.memory = memory;
        this.berths = new Tensor[berths];
        full = new Event[berths];
        empty = new Event[berths];
        busy = new boolean[berths];
        for (int i = 0; i < berths; i++) {
            this.berths[i] = memory.tensor(owner, type, dims);
            full[i] = device.event();
            empty[i] = device.event();
        }
    }

    /** The berth that has been free for longest. */
    private int berth() {
        for (int i = 1; i <= berths.length; i++) {
            int b = (last + i) % berths.length;
            if (busy[b]) continue;
            busy[b] = true;
            return last = b;
        }
        throw Fail.internal("all %d berths of %s are taken", berths.length, berths[0]);
    }

    @Override
    public void send(MemorySegment from) {
        int b = berth();
        Fail.unless(from.byteSize() == berths[b].bytes(), "%s takes %d bytes, got %d", berths[b], berths[b].bytes(), from.byteSize());
        empty[b].hold(Lane.UPLOAD);
        device.upload(Lane.UPLOAD, berths[b].address, from);
        full[b].record(Lane.UPLOAD);
        sent.put(from.address(), b);
    }

    @Override
    public Tensor take(MemorySegment from) {
        Fail.unless(taking < 0, "%s: the last was not said to be taken", berths[0]);
        if (!sent.containsKey(from.address())) send(from);
        taking = sent.remove(from.address());
        full[taking].hold(Lane.COMPUTE);
        return berths[taking];
    }

    @Override
    public void taken() {
        empty[taking].record(Lane.COMPUTE);
        busy[taking] = false;
        taking = -1;
    }

    @Override
    public Tensor give(MemorySegment to) {
        Fail.unless(giving < 0, "%s: the last was not said to be given", berths[0]);
        giving = berth();
        this.to = to;
        empty[giving].hold(Lane.COMPUTE);
        return berths[giving];
    }

    @Override
    public void given() {
        full[giving].record(Lane.COMPUTE);
        full[giving].hold(Lane.DOWNLOAD);
        device.download(Lane.DOWNLOAD, to, berths[giving].address);
        empty[giving].record(Lane.DOWNLOAD);
        busy[giving] = false;
        giving = -1;
    }

    @Override
    public void land() {
        device.sync(Lane.DOWNLOAD);
    }

    @Override
    public void close() {
        for (int i = 0; i < berths.length; i++) {
            memory.free(berths[i].address); // waits for what is on its way
            full[i].close();
            empty[i].close();
        }
    }
}
