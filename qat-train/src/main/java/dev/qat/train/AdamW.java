package dev.qat.train;

import dev.qat.ops.Backend;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;

/**
 * AdamW (Loshchilov and Hutter, 2019) with fp32 masters: one fused pass per run of parameters that lie side by side and share
 * a learning rate. Owns the gradients and both moments, each in one slab.
 */
public final class AdamW implements AutoCloseable {
    /** Parameters that train at one rate. */
    public record Group(List<Param> params, double rate, double decay) {}

    /**
     * @param maxNorm gradients are scaled down to this global norm; 0 for never
     * @param onHost  keeps both moments on the host, where the update reads and writes them across the bus
     */
    public record Config(double beta1, double beta2, double eps, double maxNorm, boolean onHost) {
        public Config(double beta1, double beta2, double eps, double maxNorm) {
            this(beta1, beta2, eps, maxNorm, false);
        }

        public static final Config DEFAULTS = new Config(0.9, 0.999, 1e-8, 0);
    }

    /** Neighbours in memory with one rate: their values, gradients and moments as four windows of equal length. */
    private record Run(Group group, Tensor value, Tensor grad, Tensor mean, Tensor square, Tensor hyper) {}

    private static final long ALIGN = 64;
    private static final int HYPER = 8;

    private final Config config;
    private final Memory memory;
    private final List<Run> runs = new ArrayList<>();
    private final List<Param> params = new ArrayList<>();
    private final Tensor grads, means, squares;
    /** Rates and corrections of each run (runs, 8), and the sum of the squares of all gradients (1). */
    private final Tensor hyper, total;
    private long steps;

    /** Gives every parameter of the groups a gradient and marks it as training. */
    public AdamW(Backend backend, List<Group> groups, Config config) {
        this.config = config;
        this.memory = backend.memory();
        List<List<Param>> neighbours = new ArrayList<>();
        List<Group> owners = new ArrayList<>();
        for (Group g : groups) {
            for (List<Param> run : neighbours(g.params)) {
                neighbours.add(run);
                owners.add(g);
            }
        }
        long n = neighbours.stream().mapToLong(AdamW::span).sum();
        grads = memory.tensor("gradients", n);
        means = moments("first moments", n);
        squares = moments("second moments", n);
        hyper = memory.tensor("hyperparameters", neighbours.size(), HYPER);
        total = memory.tensor("gradient norm", 1);
        for (Tensor t : List.of(grads, means, squares, total)) backend.fill(t, 0);
        long at = 0;
        for (int i = 0; i < neighbours.size(); i++) {
            adopt(owners.get(i), neighbours.get(i), at);
            at += span(neighbours.get(i));
        }
    }

    private Tensor moments(String name, long total) {
        return new Tensor(name, DType.F32, config.onHost ? memory.allocateOnHost(name, 4 * total) : memory.allocate(name, 4 * total), total);
    }

    private void adopt(Group group, List<Param> run, long at) {
        long base = run.getFirst().value().address, n = span(run);
        for (Param p : run) {
            Tensor v = p.value();
            v.grad = new Tensor("d " + p.name(), DType.F32, grads.address + 4 * at + v.address - base, v.dims());
            v.wants = true;
            params.add(p);
        }
        runs.add(new Run(group, new Tensor("values", DType.F32, base, n), grads.view(at, n), means.view(at, n), squares.view(at, n),
                hyper.view((long) HYPER * runs.size(), HYPER)));
    }

    private static long end(Param p) {
        return (p.value().address + p.value().bytes() + ALIGN - 1) / ALIGN * ALIGN;
    }

    /** Elements from the first to the last of a run, padding included. */
    private static long span(List<Param> run) {
        return (end(run.getLast()) - run.getFirst().value().address) / 4;
    }

    /** Parameters that follow each other, in the order given and in one allocation: what lies between two others is not ours. */
    private List<List<Param>> neighbours(List<Param> params) {
        List<List<Param>> runs = new ArrayList<>();
        for (Param p : params) {
            Param before = runs.isEmpty() ? null : runs.getLast().getLast();
            if (before == null || end(before) != p.value().address || slab(before) != slab(p)) runs.add(new ArrayList<>());
            runs.getLast().add(p);
        }
        return runs;
    }

    /** Where the allocation begins that a parameter lies in. */
    private long slab(Param p) {
        long at = p.value().address;
        return memory.slabs().stream().filter(s -> s.address() <= at && at < s.address() + s.bytes()).findFirst()
                .orElseThrow(() -> Fail.internal("%s lies in no allocation", p.name())).address();
    }

    /** Bytes that an update moves over the bus: both moments, there and back, where they lie on the host. */
    long busBytes() {
        return config.onHost ? 2 * (means.bytes() + squares.bytes()) : 0;
    }

    long valueBytes() {
        return 4 * trainable();
    }

    long momentBytes() {
        return 2 * valueBytes();
    }

    public long trainable() {
        return params.stream().mapToLong(p -> p.value().size()).sum();
    }

    /** Readies the gradients for a batch whose parts will add theirs. */
    void clear(Backend backend) {
        backend.fill(grads, 0);
    }

    /** In the step that begins, gradients are added to what the parts of the batch before gave. */
    void carry(Tape tape) {
        for (Param p : params) tape.carry(p.value());
    }

    /** Uploads what changes from step to step: {@code factor} of every peak rate, and the bias corrections. */
    public void prepare(double factor) {
        steps++;
        float c1 = (float) (1 / (1 - Math.pow(config.beta1, steps))), c2 = (float) (1 / (1 - Math.pow(config.beta2, steps)));
        float[] all = new float[HYPER * runs.size()];
        for (int i = 0; i < runs.size(); i++) {
            Group g = runs.get(i).group;
            float[] one = {(float) (g.rate * factor), (float) config.beta1, (float) config.beta2, (float) config.eps, (float) g.decay, c1, c2, (float) config.maxNorm};
            System.arraycopy(one, 0, all, HYPER * i, HYPER);
        }
        memory.set(hyper, all);
    }

    /** Updates every parameter from the gradients of the step just recorded; part of the step. */
    public void update(Backend backend) {
        backend.sumSquares(total, grads);
        for (Run r : runs) backend.adamw(r.value, r.grad, r.mean, r.square, r.hyper, total);
    }

    /** A trained parameter beside its two moments: what has to be kept for the next step to be the same. */
    record State(Param param, Tensor mean, Tensor square) {}

    List<State> state() {
        return params.stream().map(p -> {
            long at = (p.value().grad.address - grads.address) / 4;
            return new State(p, means.view(at, p.value().dims()), squares.view(at, p.value().dims()));
        }).toList();
    }

    /** Steps taken so far, which the bias corrections depend on. */
    long steps() {
        return steps;
    }

    /** Goes on as after so many steps; the moments are the caller's to restore. */
    void steps(long taken) {
        steps = taken;
    }

    /** Forgets every step taken: moments and count are as at the beginning. */
    void restart(Backend backend) {
        for (Tensor t : List.of(means, squares, total)) backend.fill(t, 0);
        steps = 0;
    }

    /** Σ g² of the last step: once it was no finite number it is NaN, and values and moments stay as they were.   (1) */
    Tensor squaredNorm() {
        return total;
    }

    /** Fails if a parameter that should train got no gradient in the tape's last step. */
    public void checkAllReached(Tape tape) {
        for (Param p : params) {
            Fail.unless(tape.reached(p.value()), "%s should train but no gradient reached it", p.name());
        }
    }

    /** Lets the parameters rest and gives the memory back. */
    @Override
    public void close() {
        for (Param p : params) {
            p.value().wants = false;
            p.value().grad = null;
        }
        for (Tensor t : List.of(grads, means, squares, hyper, total)) memory.free(t.address);
    }
}
