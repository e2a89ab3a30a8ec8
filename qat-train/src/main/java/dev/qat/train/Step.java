package dev.qat.train;

import dev.qat.ops.Backend;
import dev.qat.ops.Meter;
import dev.qat.ops.Tape;
import dev.qat.tensor.Arena;
import dev.qat.tensor.HostStowage;
import dev.qat.tensor.ShapeMemory;
import dev.qat.tensor.Stowage;
import java.util.function.Consumer;

/**
 * One step of a run, ready to be repeated: it is first run on shapes alone, which gives the exact memory, operations and bytes,
 * and the arena of exactly that size.
 */
public final class Step implements AutoCloseable {
    /** What one step needs: arena bytes, those that wait on the host in all and of one tensor, operations of its products, bytes its ops touch. */
    public record Cost(long arenaBytes, long stowedBytes, long stowedEach, double flop, double bytes, java.util.List<Arena.Row> owners, java.util.Map<String, Meter.Cost> ops) {}

    private final Tape tape;
    private final Backend backend;
    private final Arena arena;
    private final Stowage stowage;
    private final boolean record;
    private final Consumer<Tape> body;
    private final Cost cost;
    private final Backend.Repeated repeated;

    public Step(Backend backend, String owner, boolean record, Consumer<Tape> body) {
        this(backend, owner, record, false, body);
    }

    /** @param stow what dropped segments start again from waits on the host */
    Step(Backend backend, String owner, boolean record, boolean stow, Consumer<Tape> body) {
        this.backend = backend;
        this.record = record;
        this.body = body;
        this.cost = cost(backend, record, stow, body);
        this.arena = Arena.of(backend.memory(), owner, cost.arenaBytes);
        this.stowage = stow ? backend.memory().stowage("what blocks start again from", cost.stowedBytes, cost.stowedEach) : null;
        this.tape = new Tape(backend, arena, stowage);
        this.repeated = backend.repeated(this::once);
    }

    /** Runs the body once on shapes. */
    public static Cost cost(Backend backend, boolean record, Consumer<Tape> body) {
        return cost(backend, record, false, body);
    }

    private static Cost cost(Backend backend, boolean record, boolean stow, Consumer<Tape> body) {
        Meter meter = Meter.shape(backend.operand(), new ShapeMemory(256));
        HostStowage stowage = stow ? new HostStowage(Arena.counting(), () -> {}) : null;
        Tape shape = new Tape(meter.backend(), Arena.counting(), stowage);
        shape.begin(record);
        body.accept(shape);
        shape.begin(false);
        return new Cost(shape.arena().peak(), stow ? stowage.peak() : 0, stow ? stowage.largest() : 0, meter.flop(), meter.bytes(), shape.arena().peakTable(), meter.costs());
    }

    public Cost cost() {
        return cost;
    }

    public Tape tape() {
        return tape;
    }

    private void once() {
        tape.begin(record);
        body.accept(tape);
    }

    /** One step; on a device that records steps, the body's Java code runs only until it is recorded. */
    public void run() {
        repeated.run();
    }

    /** The body once more through another backend over the same memory, which may end it early by throwing. */
    void repeat(Backend through) {
        Tape t = new Tape(through, arena, stowage);
        try {
            t.begin(record);
            body.accept(t);
        } finally {
            t.begin(false);
        }
    }

    @Override
    public void close() {
        repeated.close();
        backend.memory().free(arena.base());
        if (stowage != null) stowage.close();
    }
}
