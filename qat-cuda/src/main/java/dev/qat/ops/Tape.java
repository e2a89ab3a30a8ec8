package dev.qat.ops;

import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;

/**
 * Remembers how to run the ops of a step backwards: one closure per op, run in reverse.
 *
 * <p>{@link #grad} is the whole memory policy of the backward pass: the first caller writes, later callers add, and what is
 * frozen gets {@link Grad#NONE}. {@link #segment} is the only clever function: a block run under its own arena mark.
 */
public final class Tape {
    /** What an op left behind: its output (null for a loss, which has no consumer) and its backward. */
    private record Entry(Tensor y, Runnable back) {}

    /** Memory that holds the gradient of one segment's output until the backward of that segment has run. */
    private record Lane(Tensor memory, Tensor holder) {}

    private final Backend backend;
    private final Arena arena;
    private final List<Entry> entries = new ArrayList<>();
    /** Memory for the gradients between dropped segments; a chain needs two, one that is read while the other is written. */
    private List<Lane> lanes = new ArrayList<>();
    /** Copies in the operand type, in the order they were made; they live no longer than the mark they were made under. */
    private final List<Tensor> copied = new ArrayList<>();
    private final Map<Tensor, Tensor> copies = new IdentityHashMap<>();
    /** Tensors whose gradient lies in the arena, and so lives no longer than the step. */
    private final List<Tensor> placed = new ArrayList<>();
    private boolean recording = true;
    private long step;

    public Tape(Backend backend, Arena arena) {
        this.backend = backend;
        this.arena = arena;
    }

    public Backend backend() {
        return backend;
    }

    public Arena arena() {
        return arena;
    }

    /** Begins a step: everything the last one allocated is given back. Recording is off for evaluation. */
    public void begin(boolean record) {
        arena.release(0);
        entries.clear();
        lanes = new ArrayList<>();
        forgetOperands(0);
        placed.forEach(x -> x.grad = null);
        placed.clear();
        recording = record;
        step = STEPS.incrementAndGet();
    }

    /** Steps are numbered across tapes, since parameters outlive them and remember the step of their last gradient. */
    private static final java.util.concurrent.atomic.AtomicLong STEPS = new java.util.concurrent.atomic.AtomicLong();

    public boolean recording() {
        return recording;
    }

    public Tensor alloc(String name, long... dims) {
        return arena.alloc(name, DType.F32, dims);
    }

    /** A tensor that products will read: in the backend's operand type. */
    public Tensor allocOperand(String name, long... dims) {
        return arena.alloc(name, backend.operand(), dims);
    }

    public Tensor allocInts(String name, long... dims) {
        return arena.alloc(name, DType.I32, dims);
    }

    /** x as products read it: itself, or a copy in the operand type that all products of this step share. */
    public Tensor operand(Tensor x) {
        if (x.type == backend.operand()) return x;
        Tensor copy = copies.get(x);
        if (copy == null) {
            copy = allocOperand(x.name + ".operand", x.dims());
            backend.copy(copy, x);
            copies.put(x, copy);
            copied.add(x);
        }
        return copy;
    }

    private void forgetOperands(int from) {
        while (copied.size() > from) copies.remove(copied.removeLast());
    }

    /** Keeps the backward of an op whose output is y; skipped where no input wants a gradient. */
    void push(Tensor y, Runnable back, Tensor... inputs) {
        for (Tensor x : inputs) y.wants |= x != null && x.wants;
        if (recording && y.wants) entries.add(new Entry(y, back));
    }

    /** Keeps a loss: its backward starts the pass and needs no gradient of its own. */
    void pushLoss(Runnable back) {
        entries.add(new Entry(null, back));
    }

    /** Lets the gradient of y be written where the gradient of x will be: for an element-wise op whose backward may work in place. */
    void shareGrad(Tensor y, Tensor x) {
        if (recording && x.wants && x.grad != null) y.gradHost = x;
    }

    /** Where the next contribution to dL/dx goes. */
    public Grad grad(Tensor x) {
        if (x == null || !x.wants) return Grad.NONE;
        Fail.unless(x.lentStep != step || x.gradStep == step, "the gradient of %s is lent out and cannot be written yet", x);
        return next(x);
    }

    /** The same for the backward of y, which the gradient of x may have been lent to by {@link #shareGrad}. */
    Grad gradInPlace(Tensor x, Tensor y) {
        return x.wants && gradOf(y) == x.grad ? next(x) : grad(x);
    }

    private Grad next(Tensor x) {
        if (x.grad == null) x.grad = place(x);
        boolean add = x.gradStep == step;
        x.gradStep = step;
        return new Grad(x.grad, add);
    }

    private Tensor place(Tensor x) {
        placed.add(x);
        Tensor host = x.gradHost;
        if (host != null && host.gradStep != step && host.lentStep != step) {
            host.lentStep = step;
            return host.grad;
        }
        return alloc("d " + x.name, x.dims());
    }

    /** dL/dy, which is complete by the time y's own backward runs. */
    Tensor gradOf(Tensor y) {
        Fail.unless(y.gradStep == step, "the gradient of %s was read before it was written", y);
        return y.grad;
    }

    /** Whether a gradient of x was written in this step. */
    public boolean reached(Tensor x) {
        return x.gradStep == step;
    }

    /** Runs everything recorded since {@link #begin} backwards. */
    public void backward() {
        backward(0);
    }

    private void backward(int from) {
        for (int i = entries.size() - 1; i >= from; i--) {
            Entry e = entries.remove(i);
            if (e.y == null || e.y.gradStep == step) e.back.run();
        }
    }

    /**
     * y = block(x), under its own mark. With {@code keep} the block's activations stay until its gradient is due; without, they
     * are dropped at once and the block runs again then. Not recording, they are always dropped. Activation checkpointing,
     * block-wise training and memory per block are all this function.
     */
    public Tensor segment(Tensor x, boolean keep, UnaryOperator<Tensor> block) {
        if (recording && keep) return block.apply(x);
        boolean outer = recording;
        Tensor y = alloc("segment", x.dims());
        long mark = arena.mark();
        int kept = copied.size();
        recording = false;
        Tensor out = block.apply(x);
        recording = outer;
        backend.copy(y, out);
        y.wants = out.wants;
        forgetOperands(kept);
        arena.release(mark);
        if (recording && y.wants) entries.add(new Entry(y, () -> rerun(y, x, block)));
        return y;
    }

    private void rerun(Tensor y, Tensor x, UnaryOperator<Tensor> block) {
        if (x.wants && x.grad == null) x.grad = lane(x, y.grad);
        List<Lane> outerLanes = lanes;
        lanes = new ArrayList<>();
        long mark = arena.mark();
        int from = entries.size(), kept = copied.size();
        Tensor again = block.apply(x);
        again.grad = y.grad;
        again.gradStep = step;
        backward(from);
        forgetOperands(kept);
        arena.release(mark);
        lanes = outerLanes;
    }

    /** Memory for dL/dx while dL/dy is read: what an earlier segment no longer needs, or new. */
    private Tensor lane(Tensor x, Tensor dy) {
        placed.add(x);
        Tensor memory = null;
        for (Lane l : lanes) if (l.memory.size() == x.size() && l.memory.address != dy.address && !pending(l.holder)) memory = l.memory;
        if (memory == null) memory = alloc("d segment", x.dims());
        Tensor taken = memory;
        lanes.removeIf(l -> l.memory == taken);
        if (pending(x)) lanes.add(new Lane(memory, x));
        return memory.view(0, x.dims());
    }

    /** Whether the backward of the op that made y is still to come. */
    private boolean pending(Tensor y) {
        return entries.stream().anyMatch(e -> e.y == y);
    }
}
