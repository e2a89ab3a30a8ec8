package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import dev.qat.watch.Watch;
import java.util.List;
import java.util.function.LongConsumer;

/** Trains whatever parameters it is given through the whole model: on the text, or towards the teacher. */
public final class EndToEnd {
    public enum Loss { CROSS_ENTROPY, DISTILL }

    /**
     * @param recompute drops each block's activations and computes them again for the gradient: less memory, a third more work
     * @param shuffle   draws the windows of every epoch in a new order; else always in the text's
     * @param steps     as many steps, over as many epochs as they need; 0 takes {@code epochs}
     * @param parts     a batch is computed in so many parts, one after the other, whose gradients are added: memory of a part
     * @param stow      what recomputation starts from waits on the host
     * @param guard     windows that are held back to judge by: if the model is no nearer to full precision on them than before, all is as before
     */
    public record Config(int epochs, int batch, Schedule schedule, double rate, AdamW.Config adam, Loss loss, Divergence divergence,
                         Part windows, boolean shuffle, boolean recompute, int steps, int parts, boolean stow, int guard) {
        public Config {
            Fail.unless(parts > 0 && batch % parts == 0, "a batch of %d in %d parts", batch, parts);
        }

        /** Every batch at once. */
        public Config(int epochs, int batch, Schedule schedule, double rate, AdamW.Config adam, Loss loss, Divergence divergence,
                      Part windows, boolean shuffle, boolean recompute, int steps) {
            this(epochs, batch, schedule, rate, adam, loss, divergence, windows, shuffle, recompute, steps, 1, false, 0);
        }

        /** The same for less memory. */
        public Config thrifty(int inParts, boolean stowed) {
            return new Config(epochs, batch, schedule, rate, adam, loss, divergence, windows, shuffle, recompute, steps, inParts, stowed, guard);
        }

        /** The same with windows held back. */
        public Config guarded(int heldBack) {
            return new Config(epochs, batch, schedule, rate, adam, loss, divergence, windows, shuffle, recompute, steps, parts, stow, heldBack);
        }

        /** For whole epochs. */
        public Config(int epochs, int batch, Schedule schedule, double rate, AdamW.Config adam, Loss loss, Divergence divergence,
                      Part windows, boolean shuffle, boolean recompute) {
            this(epochs, batch, schedule, rate, adam, loss, divergence, windows, shuffle, recompute, 0);
        }
    }

    /** What a method does before a step, such as to move a weight that follows a schedule. */
    @FunctionalInterface
    public interface Before {
        void step(long step, long total);
    }

    /** What a method does after a step with the gradients it left, such as to turn a matrix that must stay orthogonal. */
    @FunctionalInterface
    public interface After {
        After NOTHING = _ -> {};

        /** @param factor of the peak rate at this step */
        void step(double factor);
    }

    private static final int CHUNK = 512;

    private final Run run;
    private final Config c;
    private final Windows windows, guard;
    /** Windows of a part of a batch. */
    private final int size;
    private final Tensor ids, targets, loss;
    private final Positions at;
    private After after;

    private EndToEnd(Run run, Config c) {
        this.run = run;
        this.c = c;
        Windows all = run.windows(c.windows);
        if (c.guard > 0 && all.count() - c.guard < c.batch) {
            throw Fail.usage("guard = %d holds back too many of %d windows: at least a batch of %d must be left to train on", c.guard, all.count(), c.batch);
        }
        windows = c.guard > 0 ? all.first(all.count() - c.guard) : all;
        guard = c.guard > 0 ? all.last(c.guard) : null;
        size = c.batch / c.parts;
        Memory m = run.backend().memory();
        long n = (long) size * windows.length();
        ids = m.tensor("ids", DType.I32, n);
        targets = m.tensor("targets", DType.I32, n);
        loss = m.tensor("loss", 1);
        at = run.student().positions(size, windows.length());
    }

    public static void train(Run run, String stage, List<AdamW.Group> groups, Config c) {
        train(run, stage, groups, c, (_, _) -> {});
    }

    public static void train(Run run, String stage, List<AdamW.Group> groups, Config c, Before before) {
        train(run, stage, groups, c, before, After.NOTHING);
    }

    public static void train(Run run, String stage, List<AdamW.Group> groups, Config c, Before before, After after) {
        EndToEnd e = new EndToEnd(run, c);
        e.after = after;
        try (AdamW adam = new AdamW(run.backend(), groups, c.adam)) {
            if (c.guard > 0) e.guarded(stage, adam, before);
            else e.train(stage, adam, before);
        } finally {
            for (Tensor t : List.of(e.ids, e.targets, e.loss, e.at.positions())) run.backend().memory().free(t.address);
        }
    }

    /** Trains, and takes it back where it did no good. */
    private void guarded(String stage, AdamW adam, Before before) {
        Judge judge = new Judge(run, guard, c.batch);
        Memory memory = run.backend().memory();
        Judge.Quality start = judge.judge(false);
        try (Snapshot values = run.planned() ? null : Snapshot.ofValues(memory, adam)) {
            train(stage, adam, before);
            Judge.Quality end = judge.judge(false);
            if (run.planned()) return;
            boolean better = end.kl() < start.kl();
            if (!better) values.restoreValues(memory, adam);
            run.note("guard_start", start.kl());
            run.note("guard_end", end.kl());
            run.watch().say("%s: KL %.5f -> %.5f on %d windows held back%s".formatted(stage, start.kl(), end.kl(), guard.count(), better ? "" : ": no nearer, so the model stays as it was"));
        }
    }

    private void train(String stage, AdamW adam, Before before) {
        int perEpoch = windows.count() / c.batch;
        if (perEpoch == 0) throw Fail.usage("%s: batch = %d, but there are only %d training windows of %d tokens. Lower batch or give more text.",
                stage, c.batch, windows.count(), windows.length());
        long total = c.steps > 0 ? c.steps : (long) c.epochs * perEpoch;
        String owner = "step of " + stage;
        try (Step step = new Step(run.backend(), owner, true, c.recompute && c.stow, t -> body(t, adam));
             Step update = c.parts == 1 ? null : new Step(run.backend(), "update of " + stage, false, t -> adam.update(t.backend()));
             Watch.Job job = run.watch().job(stage, total)) {
            Trainer trainer = new Trainer(run, new Trainer.Name(stage, -1), c.schedule, c.rate, adam).inParts(c.parts, update).after(after);
            trainer.loop(job, 0, total, feed(total, perEpoch, before), step, loss, (long) c.batch * windows.length());
        }
    }

    /** Uploads part i of all parts of all batches. */
    private LongConsumer feed(long total, int perEpoch, Before before) {
        Order order = new Order(c.shuffle, run.recipe().seed(), windows.count());
        int[] in = new int[size * windows.length()], out = new int[in.length], rows = new int[size];
        Memory m = run.backend().memory();
        return i -> {
            long step = i / c.parts;
            int part = (int) (i % c.parts);
            if (part == 0) {
                before.step(step, total);
                if (c.parts > 1) run.backend().fill(loss, 0);
            }
            for (int b = 0; b < size; b++) rows[b] = order.at(step / perEpoch, (int) (step % perEpoch) * c.batch + part * size + b);
            windows.fill(rows, in, out);
            m.set(ids, in);
            m.set(targets, out);
        };
    }

    private void body(Tape t, AdamW adam) {
        if (c.parts > 1) adam.carry(t);
        Model s = run.student();
        float weight = 1f / (ids.size() * c.parts);
        Tensor h = s.hidden(t, ids, at, !c.recompute), rows;
        if (c.loss == Loss.DISTILL) {
            Model teacher = run.teacher();
            Tensor th = teacher.hidden(t, ids, at, false);
            rows = Ops.distill(t, h, s.head.value(), th, teacher.head.value(), targets, CHUNK, c.divergence, weight);
        } else {
            rows = Ops.crossEntropy(t, h, s.head.value(), targets, CHUNK, weight);
        }
        t.backward();
        if (c.parts == 1) {
            t.backend().sum(loss, rows, weight);
            adam.update(t.backend());
            return;
        }
        Tensor part = t.alloc("loss of a part", 1);
        t.backend().sum(part, rows, weight);
        t.backend().accumulate(new Grad(loss, true), part, 1);
    }
}
