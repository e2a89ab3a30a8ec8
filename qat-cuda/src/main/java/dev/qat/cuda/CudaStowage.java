package dev.qat.cuda;

import dev.qat.cuda.Device.Event;
import dev.qat.cuda.Device.Lane;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Stowage;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * A {@link Stowage} of pinned memory and two berths on the device, taken in turn. It works inside a captured step, which forks
 * into the lanes and must join them: every copy starts behind a mark on the compute lane and ends before {@link #clear}, and no
 * mark of an earlier step is waited for.
 */
final class CudaStowage implements Stowage {
    private static final int BERTHS = 2;

    /** A tensor, its berth, and from the time it is sent its place on the host. */
    private static final class Item {
        private final Tensor tensor;
        private final int berth;
        private MemorySegment host;

        Item(Tensor tensor, int berth) {
            this.tensor = tensor;
            this.berth = berth;
        }
    }

    private final Device device;
    private final Memory memory;
    private final String owner;
    private final long each;
    private final MemorySegment host;
    private final Tensor[] berths = new Tensor[BERTHS];
    private final Item[] in = new Item[BERTHS];
    private final List<Item> items = new ArrayList<>();
    /** Behind the last copy from a berth and to it, and whether the compute lane has yet to wait for it; and behind what a copy starts from. */
    private final Event[] left = new Event[BERTHS], back = new Event[BERTHS];
    private final boolean[] leaving = new boolean[BERTHS], coming = new boolean[BERTHS];
    private final Event fork;
    private int last = 1;
    private long used;

    CudaStowage(Device device, Memory memory, String owner, long bytes, long each) {
        this.device = device;
        this.memory = memory;
        this.owner = owner;
        this.each = each;
        host = device.pinned(owner, Math.max(bytes, 1));
        fork = device.event();
        for (int b = 0; b < BERTHS; b++) {
            berths[b] = memory.tensor(owner, DType.U8, each);
            left[b] = device.event();
            back[b] = device.event();
        }
    }

    private Item item(Tensor x) {
        return items.stream().filter(i -> i.tensor == x).findFirst().orElseThrow(() -> Fail.internal("%s is not stowed", x));
    }

    /** The compute lane waits for what is on its way from a berth or to it. */
    private void settle(int b) {
        if (leaving[b]) left[b].hold(Lane.COMPUTE);
        if (coming[b]) back[b].hold(Lane.COMPUTE);
        leaving[b] = coming[b] = false;
    }

    private void fork(Lane lane) {
        fork.record(Lane.COMPUTE);
        fork.hold(lane);
    }

    @Override
    public Tensor put(String name, DType type, long... dims) {
        last = 1 - last;
        settle(last);
        Item i = new Item(new Tensor(name, type, berths[last].address, dims), last);
        Fail.unless(i.tensor.bytes() <= each, "%s does not fit into a berth of %,d bytes of %s", i.tensor, each, owner);
        items.add(i);
        in[last] = i;
        return i.tensor;
    }

    @Override
    public void send(Tensor x) {
        Item i = item(x);
        Fail.unless(in[i.berth] == i, "%s was overwritten before it was sent", x);
        i.host = host.asSlice(used, x.bytes());
        used += x.bytes();
        fork(Lane.DOWNLOAD);
        device.download(Lane.DOWNLOAD, i.host, x.address);
        left[i.berth].record(Lane.DOWNLOAD);
        leaving[i.berth] = true;
    }

    @Override
    public void fetch(Tensor x) {
        Item i = item(x);
        bring(i);
        Fail.unless(in[i.berth] == i, "%s was overwritten and never sent", x);
        settle(i.berth);
        int below = items.indexOf(i) - 1;
        if (below >= 0) bring(items.get(below));
    }

    /** Starts an item on its way to its berth, if it is not there. */
    private void bring(Item i) {
        int b = i.berth;
        if (in[b] == i || i.host == null) return;
        fork(Lane.UPLOAD);
        if (leaving[b]) left[b].hold(Lane.UPLOAD);
        device.upload(Lane.UPLOAD, i.tensor.address, i.host);
        back[b].record(Lane.UPLOAD);
        coming[b] = true;
        in[b] = i;
    }

    @Override
    public void drop(Tensor x) {
        items.remove(item(x));
    }

    @Override
    public boolean holds(Tensor x) {
        return items.stream().anyMatch(i -> i.tensor == x);
    }

    @Override
    public void clear() {
        for (int b = 0; b < BERTHS; b++) {
            settle(b);
            in[b] = null;
        }
        items.clear();
        used = 0;
        last = 1;
    }

    @Override
    public void close() {
        device.sync();
        fork.close();
        for (int b = 0; b < BERTHS; b++) {
            memory.free(berths[b].address);
            left[b].close();
            back[b].close();
        }
        device.unpin(host);
    }
}
