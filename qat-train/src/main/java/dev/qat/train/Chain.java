package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.model.Block;
import dev.qat.model.Positions;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Shuttle;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The hidden states at the entrance of a block, of every window in use, kept on the host (pinned, where there is a device) while
 * they are carried from block to block. On the device lies one batch of them, {@link #x}; the next is on its way while that one
 * is computed with, in the type products read.
 *
 * <p>A run that ends in a pass goes on at the same batch ({@link Journal}); what lies behind is not passed again.
 */
public final class Chain implements AutoCloseable {
    /** What a pass has on its way at most: two batches to the device, two from it. As many do for two chains that are read together. */
    private static final int BERTHS = 4;

    private final Run run;
    private final String stage, name;
    /** This chain and its twin, by their names. */
    private final Map<String, Chain> all;
    private final Memory memory;
    private final Windows windows;
    private final int batch;
    private final DType type;
    private final long address, bytes;
    private final MemorySegment states;   // (batches, B·T, C)
    private final Shuttle shuttle;
    /** The batch that was sent ahead; −1 for none. */
    private long ahead = -1;
    /** The batch that lies on the device.   (B·T, C) */
    public final Tensor x;
    public final Positions at;
    public final int batches;

    private Chain(Run run, String stage, String name, String owner, Map<String, Chain> all, Windows windows, int batch, Tensor x, DType type, Shuttle shuttle, Positions at) {
        this.run = run;
        this.stage = stage;
        this.name = name;
        this.all = all;
        all.put(name, this);
        this.memory = run.backend().memory();
        this.windows = windows;
        this.batch = batch;
        this.x = x;
        this.type = type;
        this.shuttle = shuttle;
        this.at = at;
        this.batches = windows.count() / batch;
        bytes = x.size() * type.bytes;
        address = memory.allocateOnHost(owner, batches * bytes);
        states = run.plan() != null ? MemorySegment.NULL : MemorySegment.ofAddress(address).reinterpret(batches * bytes);
    }

    /** The embeddings of all windows, {@code batch} at a time. */
    public static Chain open(Run run, String stage, Windows windows, int batch) {
        Chain c = blank(run, stage, "calibration", windows, batch);
        c.embed();
        return c;
    }

    /** A chain whose states are not yet known.  @param name of its own in checkpoints */
    static Chain blank(Run run, String stage, String name, Windows windows, int batch) {
        if (windows.count() < batch) {
            throw Fail.usage("%s: batch = %d, but there are only %d training windows. Lower batch or give more text.", stage, batch, windows.count());
        }
        Memory m = run.backend().memory();
        DType type = run.backend().operand();
        Tensor x = m.tensor("block input", (long) batch * windows.length(), run.student().config.C());
        return new Chain(run, stage, name, "activation chain", new LinkedHashMap<>(), windows, batch, x, type, m.shuttle("states on their way", BERTHS, type, x.dims()),
                run.student().positions(batch, windows.length()));
    }

    /** A second chain over the same windows and the same batch of the device, not yet known. */
    Chain twin(String name) {
        return new Chain(run, stage, name, "second activation chain", all, windows, batch, x, type, shuttle, at);
    }

    /** The states of all chains, whole.   each (batches, B·T, C) */
    Map<String, MemorySegment> states() {
        shuttle.land();
        Map<String, MemorySegment> bytes = new LinkedHashMap<>();
        all.forEach((name, c) -> bytes.put(name, c.states));
        return bytes;
    }

    private MemorySegment window(long batch) {
        return states.asSlice(batch * bytes, bytes);
    }

    /** Starts this chain and its twin at the embedding, unless an earlier process has carried them on. */
    void embed() {
        if (run.plan() != null || run.journal().past() || run.journal().here()) return;
        int[] in = new int[batch * windows.length()], out = new int[in.length], rows = new int[batch];
        Tensor ids = memory.tensor("ids", DType.I32, in.length);
        for (int i = 0; i < batches; i++) {
            for (int b = 0; b < batch; b++) rows[b] = i * batch + b;
            windows.fill(rows, in, out);
            memory.set(ids, in);
            run.backend().embed(x, ids, run.student().embedding.value());
            store(i);
        }
        shuttle.land();
        memory.free(ids.address);
        all.values().stream().filter(c -> c != this).forEach(c -> c.states.copyFrom(states));
    }

    /** Writes batch i of the states to {@code to}. */
    void load(long i, Tensor to) {
        if (ahead >= 0 && ahead != i) shed();
        run.backend().copy(to, shuttle.take(window(i)));
        shuttle.taken();
        ahead = -1;
    }

    /** Starts batch i on its way, which {@link #load} will ask for next. */
    void ahead(long i) {
        shuttle.send(window(i));
        ahead = i;
    }

    /** What was sent ahead is not wanted after all. */
    private void shed() {
        shuttle.take(window(ahead));
        shuttle.taken();
    }

    /** Takes what lies on the device as batch i. */
    private void store(long i) {
        run.backend().copy(shuttle.give(window(i)), x);
        shuttle.given();
    }

    /** Carries the states from the block's entrance to its exit. */
    public void advance(Block block) {
        pass(block, true, List.of());
    }

    /** The same, for those who look on from the block's sites. */
    public void advance(Block block, List<? extends Tally> tallies) {
        pass(block, true, tallies);
    }

    /** Runs the block on all states and leaves them where they are. */
    public void look(Block block, List<? extends Tally> tallies) {
        pass(block, false, tallies);
    }

    private void pass(Block block, boolean keep, List<? extends Tally> tallies) {
        try (Step forward = new Step(run.backend(), "block forward", false, t -> {
            Tensor y = block.forward(t, x, at);
            if (keep) t.backend().copy(x, y);
        })) {
            if (run.plan() != null) {
                run.plan().add("block forward", block.index, batches, x.rows(), forward.cost(), (keep ? 2 : 1) * bytes, 0);
                run.plan().kept(0, tallies.stream().mapToLong(Tally::bytes).sum(), all.size() * batches * bytes);
                return;
            }
            pass(forward, keep, new Pass(new Trainer.Name(stage + " (" + name + ")", block.index), batches, this::states, tallies));
        }
    }

    private void pass(Step forward, boolean keep, Pass pass) {
        for (int i = run.journal().begin(pass); i < batches; i++) {
            run.journal().between(pass, i);
            load(i, x);
            if (i + 1 < batches) ahead(i + 1);
            forward.run();
            if (keep) store(i);
            pass.tallies().forEach(Tally::take);
            run.journal().passed(pass, i + 1);
        }
        shuttle.land();
    }

    /** Bytes of a batch as it travels. */
    long batchBytes() {
        return bytes;
    }

    /** Gives back the device's memory, which twins share. */
    public void free() {
        for (Tensor t : List.of(x, at.positions())) memory.free(t.address);
        shuttle.close();
    }

    @Override
    public void close() {
        try {
            run.journal().left();
        } finally {
            memory.free(address);
        }
    }
}
