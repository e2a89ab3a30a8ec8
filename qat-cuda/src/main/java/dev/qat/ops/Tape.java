package dev.qat.ops;

import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Stowage;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.LongConsumer;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;

/**
 * Remembers how to run the ops of a step backwards: one closure per op, run in reverse.
 *
 * <p>{@link #grad} is the whole memory policy of the backward pass: the first caller writes, later callers add, and what is
 * frozen gets {@link Grad#NONE}. What an op made is given back as soon as its backward has run, since all that read it came
 * later on the tape; only a loss stays. {@link #segment} runs a block under its own arena mark, {@link #brief} an operand.
 */
public final class Tape {
    /** What an op left behind: its output (null for a loss, which has no consumer), its backward, and all that it allocated. */
    private record Entry(Tensor y, Runnable back, List<Tensor> made) {}

    private final Backend backend;
    private final Arena arena;
    /** Where dropped segments leave their output until they are run again; null for the arena. */
    private final Stowage stowage;
    private final List<Entry> entries = new ArrayList<>();
    /** What was allocated since the last entry and will be the next one's. */
    private List<Tensor> made = new ArrayList<>();
    /** Copies in the operand type, in the order they were made; they live no longer than the mark they were made under. */
    private final List<Tensor> copied = new ArrayList<>();
    private final Map<Tensor, Tensor> copies = new IdentityHashMap<>();
    /** Tensors whose gradient was placed by this tape, and so lives no longer than the step; and those that lie in the arena. */
    private final List<Tensor> placed = new ArrayList<>();
    private final Map<Tensor, Tensor> gradients = new IdentityHashMap<>();
    private boolean recording = true;
    private long step;

    public Tape(Backend backend, Arena arena) {
        this(backend, arena, null);
    }

    /** @param stowage takes what dropped segments leave in the operand type; null for none */
    public Tape(Backend backend, Arena arena, Stowage stowage) {
        this.backend = backend;
        this.arena = arena;
        this.stowage = stowage;
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
        if (stowage != null) stowage.clear();
        entries.clear();
        made = new ArrayList<>();
        forgetOperands(0);
        placed.forEach(x -> x.grad = null);
        placed.clear();
        gradients.clear();
        recording = record;
        step = STEPS.incrementAndGet();
    }

    /** Steps are numbered across tapes, since parameters outlive them and remember the step of their last gradient. */
    private static final java.util.concurrent.atomic.AtomicLong STEPS = new java.util.concurrent.atomic.AtomicLong();

    public boolean recording() {
        return recording;
    }

    public Tensor alloc(String name, long... dims) {
        return alloc(name, DType.F32, dims);
    }

    /** A tensor that products will read: in the backend's operand type. */
    public Tensor allocOperand(String name, long... dims) {
        return alloc(name, backend.operand(), dims);
    }

    public Tensor allocInts(String name, long... dims) {
        return alloc(name, DType.I32, dims);
    }

    public Tensor alloc(String name, DType type, long... dims) {
        Tensor t = arena.alloc(name, type, dims);
        made.add(t);
        return t;
    }

    /** Gives back what no op will read again, neither forwards nor backwards. */
    public void drop(Tensor x) {
        made.remove(x);
        free(x);
    }

    private void free(Tensor x) {
        if (stowed(x)) stowage.drop(x);
        else arena.free(x);
    }

    private boolean stowed(Tensor x) {
        return x != null && stowage != null && stowage.holds(x);
    }

    /** Gives x back before its op's backward: the op that read it, the only one, will not read it again, nor will its own. */
    public void spend(Tensor x) {
        if (recording && x.uses <= 1 && !x.reread && leave(x)) arena.free(x);
    }

    /** Takes x from the op that made it: it stays when that op's backward has run. Whether there is one. */
    private boolean leave(Tensor x) {
        for (int i = entries.size() - 1; i >= 0; i--) if (entries.get(i).made.remove(x)) return true;
        return false;
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
        if (!recording || !y.wants) return;
        for (Tensor x : inputs) if (x != null) x.uses++;
        keep(new Entry(y, back, made));
    }

    /** Keeps a loss: its backward starts the pass and needs no gradient of its own. */
    void pushLoss(Runnable back) {
        keep(new Entry(null, back, new ArrayList<>()));
    }

    private void keep(Entry e) {
        entries.add(e);
        made = new ArrayList<>();
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

    /** The same for an op that can write operands: in their type where x went into no other op and products alone read its gradient. */
    Grad gradOperand(Tensor x) {
        if (x == null || !x.wants || !x.narrowGrad || x.uses != 1 || x.grad != null || x.gradHost != null) return grad(x);
        x.grad = arena.alloc("d " + x.name, backend.operand(), x.dims());
        x.gradStep = step;
        placed.add(x);
        gradients.put(x, x.grad);
        return new Grad(x.grad, false);
    }

    /** The same for the backward of y, which the gradient of x may have been lent to by {@link #shareGrad}. */
    Grad gradInPlace(Tensor x, Tensor y) {
        return x.wants && gradOf(y) == x.grad ? next(x) : grad(x);
    }

    private Grad next(Tensor x) {
        if (x.grad == null) place(x);
        boolean add = x.gradStep == step || x.carriedStep == step;
        x.gradStep = step;
        return new Grad(x.grad, add);
    }

    private void place(Tensor x) {
        placed.add(x);
        Tensor host = x.gradHost;
        if (host != null && host.gradStep != step && host.lentStep != step && host.carriedStep != step) {
            host.lentStep = step;
            x.grad = host.grad;
        } else {
            x.grad = arena.alloc("d " + x.name, DType.F32, x.dims());
            gradients.put(x, x.grad);
        }
    }

    /** dL/dy, which is complete by the time y's own backward runs. */
    Tensor gradOf(Tensor y) {
        Fail.unless(y.gradStep == step, "the gradient of %s was read before it was written", y);
        return y.grad;
    }

    /** Whether dL/dy can become dL/dx when y's backward has read it: nothing of dL/dx is there yet, and dL/dy is this tape's own. */
    boolean handsOver(Tensor y, Tensor x) {
        return x.wants && x.grad == null && x.gradHost == null && y.grad != null && gradients.get(y) == y.grad;
    }

    void handOver(Tensor y, Tensor x) {
        x.grad = gradients.remove(y);
        x.gradStep = step;
        placed.add(x);
        gradients.put(x, x.grad);
    }

    /** In this step the gradient of x is added to what it holds: that of a batch that is computed in parts. */
    public void carry(Tensor x) {
        x.carriedStep = step;
    }

    /** Whether a gradient of x was written in this step. */
    public boolean reached(Tensor x) {
        return x.gradStep == step;
    }

    /** Runs everything recorded since {@link #begin} backwards. */
    public void backward() {
        backward(0);
        if (stowage != null) stowage.clear();
    }

    private void backward(int from) {
        List<Tensor> outer = made;
        for (int i = entries.size() - 1; i >= from; i--) {
            Entry e = entries.remove(i);
            int kept = copied.size();
            made = new ArrayList<>();
            if (e.y == null || e.y.gradStep == step) e.back.run();
            forgetOperands(kept);
            made.forEach(arena::free);
            forget(e);
        }
        made = outer;
    }

    /** Gives back what an op made and the gradient of its output, unless that is another tensor's. */
    private void forget(Entry e) {
        e.made.forEach(arena::free);
        Tensor gradient = e.y == null ? null : gradients.remove(e.y);
        if (gradient != null) arena.free(gradient);
    }

    /**
     * y = block(x), under its own mark. With {@code keep} the block's activations stay until its gradient is due; without, they
     * are dropped at once and the block runs again then. Not recording, they are always dropped. Activation checkpointing,
     * block-wise training and memory per block are all this function.
     */
    public Tensor segment(Tensor x, boolean keep, UnaryOperator<Tensor> block) {
        return segment(x, keep, DType.F32, block);
    }

    /** The same with an output that is kept in a type of its own; a segment that reads it computes with fp32. */
    public Tensor segment(Tensor x, boolean keep, DType type, UnaryOperator<Tensor> block) {
        return recording && keep ? block.apply(x) : segment(x, type, block, x.dims());
    }

    /** The same for the first of all, whose input is soon made again and need not wait: dropped, with an output of {@code dims}. */
    public Tensor segment(DType type, Supplier<Tensor> block, long... dims) {
        return segment(null, type, _ -> block.get(), dims);
    }

    private Tensor segment(Tensor x, DType type, UnaryOperator<Tensor> block, long... dims) {
        boolean stow = stowage != null && recording && type == backend.operand();
        Tensor[] y = {stow ? null : alloc("segment", type, dims)};
        brief(() -> {
            Tensor out = block.apply(wide(x));
            if (stow) y[0] = stowage.put("segment", type, dims);
            backend.copy(y[0], out);
            y[0].wants = out.wants;
        });
        if (recording && y[0].wants) {
            keep(new Entry(y[0], () -> rerun(y[0], x, block), new ArrayList<>()));
            if (stowed(x)) stowage.send(x);
        }
        return y[0];
    }

    /** Runs a dropped segment again and backwards. The gradient of its output becomes that of its input where residuals hand it on. */
    private void rerun(Tensor y, Tensor x, UnaryOperator<Tensor> block) {
        free(y); // all that read it has run
        if (stowed(x)) stowage.fetch(x);
        Tensor[] in = new Tensor[1];
        again(() -> {
            in[0] = wide(x);
            if (x != null && in[0] != x) lend(x, in[0]);
            Tensor out = block.apply(in[0]);
            out.grad = y.grad;
            out.gradStep = step;
            if (gradients.remove(y, y.grad)) gradients.put(out, y.grad);
            spend(out);
        }, mark -> {
            if (x != null && in[0].grad != null) collect(x, in[0], mark);
        });
    }

    /** x in fp32. */
    private Tensor wide(Tensor x) {
        if (x == null || x.type == DType.F32) return x;
        Tensor w = alloc(x.name, x.dims());
        backend.copy(w, x);
        return w;
    }

    /** Lets a copy of x collect its gradient. */
    private static void lend(Tensor x, Tensor copy) {
        copy.wants = x.wants;
        copy.grad = x.grad;
        copy.gradStep = x.gradStep;
    }

    /** Takes what a copy of x collected, or x itself, out from under a mark. */
    private void collect(Tensor x, Tensor copy, long mark) {
        x.gradStep = copy.gradStep;
        if (copy != x && x.grad == null) {
            x.grad = copy.grad;
            placed.add(x);
            if (gradients.remove(copy, copy.grad)) gradients.put(x, x.grad);
        }
        if (gradients.get(x) == x.grad) arena.keep(x.grad, mark);
    }

    /** Runs ops under their own mark and without a trace: what they made is gone when it returns. */
    void brief(Runnable ops) {
        boolean outer = recording;
        List<Tensor> outerMade = made;
        made = new ArrayList<>();
        long mark = arena.mark();
        int kept = copied.size();
        recording = false;
        ops.run();
        recording = outer;
        forgetOperands(kept);
        arena.release(mark);
        made = outerMade;
    }

    /** In a backward pass: runs ops that were run {@link #brief}ly once more, and then backwards; {@code last} before their mark goes. */
    private void again(Runnable ops, LongConsumer last) {
        List<Tensor> outerMade = made;
        made = new ArrayList<>();
        long mark = arena.mark();
        int from = entries.size(), kept = copied.size();
        ops.run();
        backward(from);
        last.accept(mark);
        forgetOperands(kept);
        arena.release(mark);
        made = outerMade;
    }

    /** The same for an operand: {@code first} takes its gradient, and when that has been passed on, {@code then} makes that of x. */
    void again(Supplier<Tensor> operand, Consumer<Tensor> first, Tensor x, Consumer<Tensor> then) {
        Tensor[] w = new Tensor[1];
        again(() -> {
            Tensor made = operand.get();
            leave(made);
            w[0] = made;
            first.accept(made);
        }, mark -> {
            if (!x.wants) return;
            then.accept(operand(w[0]));
            collect(x, x, mark);
        });
    }
}
