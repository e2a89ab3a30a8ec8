package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Divergence;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.List;

/** Trains whatever parameters it is given through the whole model: on the text, or towards the teacher. */
public final class EndToEnd {
    public enum Loss { CROSS_ENTROPY, DISTILL }

    /**
     * @param recompute drops each block's activations and computes them again for the gradient: less memory, a third more work
     * @param shuffle   draws the windows of every epoch in a new order; else always in the text's
     * @param steps     as many steps, over as many epochs as they need; 0 takes {@code epochs}
     */
    public record Config(int epochs, int batch, Schedule schedule, double rate, AdamW.Config adam, Loss loss, Divergence divergence,
                         Part windows, boolean shuffle, boolean recompute, int steps) {
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
    private final Tensor ids, targets, loss;
    private final Positions at;

    private EndToEnd(Run run, Config c) {
        this.run = run;
        this.c = c;
        this.windows = run.windows(c.windows);
        Memory m = run.backend().memory();
        long n = (long) c.batch * windows.length();
        ids = m.tensor("ids", DType.I32, n);
        targets = m.tensor("targets", DType.I32, n);
        loss = m.tensor("loss", 1);
        at = run.student().positions(c.batch, windows.length());
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
        Windows w = windows;
        int perEpoch = w.count() / c.batch;
        if (perEpoch == 0) throw Fail.usage("%s: batch = %d, but there are only %d training windows of %d tokens. Lower batch or give more text.",
                stage, c.batch, w.count(), w.length());
        long total = c.steps > 0 ? c.steps : (long) c.epochs * perEpoch;
        Order order = new Order(c.shuffle, run.recipe().seed(), w.count());
        int[] in = new int[c.batch * w.length()], out = new int[in.length], rows = new int[c.batch];
        try (Step step = new Step(run.backend(), "step of " + stage, true, t -> body(t, adam)); Watch.Job job = run.watch().job(stage, total)) {
            Trainer trainer = new Trainer(run, new Trainer.Name(stage, -1), c.schedule, c.rate, adam);
            trainer.loop(job, 0, total, i -> {
                before.step(i, total);
                for (int b = 0; b < c.batch; b++) rows[b] = order.at(i / perEpoch, (int) (i % perEpoch) * c.batch + b);
                w.fill(rows, in, out);
                run.backend().memory().set(ids, in);
                run.backend().memory().set(targets, out);
            }, step, loss, 1, in.length);
        }
    }

    private void body(Tape t, AdamW adam) {
        Model s = run.student();
        float weight = 1f / ids.size();
        Tensor h = s.hidden(t, ids, at, !c.recompute), rows;
        if (c.loss == Loss.DISTILL) {
            Model teacher = run.teacher();
            Tensor th = teacher.hidden(t, ids, at, false);
            rows = Ops.distill(t, h, s.head.value(), th, teacher.head.value(), targets, CHUNK, c.divergence, weight);
        } else {
            rows = Ops.crossEntropy(t, h, s.head.value(), targets, CHUNK, weight);
        }
        t.backward();
        t.backend().sum(loss, rows, weight);
        adam.update(t.backend());
    }
}
