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
     */
    public record Config(int epochs, int batch, Schedule schedule, double rate, AdamW.Config adam, Loss loss, Divergence divergence,
                         Part windows, boolean shuffle, boolean recompute, int steps, int parts, boolean stow) {
        public Config {
            Fail.unless(parts > 0 && batch % parts == 0, "a batch of %d in %d parts", batch, parts);
        }

        /** Every batch at once. */
        public Config(int epochs, int batch, Schedule schedule, double rate, AdamW.Config adam, Loss loss, Divergence divergence,
                      Part windows, boolean shuffle, boolean recompute, int steps) {
            this(epochs, batch, schedule, rate, adam, loss, divergence, windows, shuffle, recompute, steps, 1, false);
        }

        /** The same for less memory. */
        public Config thrifty(int inParts, boolean stowed) {
            return new Config(epochs, batch, schedule, rate, adam, loss, divergence, windows, shuffle, recompute, steps, inParts, stowed);
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

    private static final int CHUNK = 512;

    private final Run run;
    private final Config c;
    private final Windows windows;
    /** Windows of a part of a batch. */
    private final int size;
    private final Tensor ids, targets, loss;
    private final Positions at;

    private EndToEnd(Run run, Config c) {
        this.run = run;
        this.c = c;
        this.windows = run.windows(c.windows);
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
        EndToEnd e = new EndToEnd(run, c);
        try (AdamW adam = new AdamW(run.backend(), groups, c.adam)) {
            e.train(stage, adam, before);
        } finally {
            for (Tensor t : List.of(e.ids, e.targets, e.loss, e.at.positions())) run.backend().memory().free(t.address);
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
            Trainer trainer = new Trainer(run, new Trainer.Name(stage, -1), c.schedule, c.rate, adam).inParts(c.parts, update);
            trainer.loop(job, 0, total, feed(total, perEpoch, before), step, loss, 1, (long) c.batch * windows.length());
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
