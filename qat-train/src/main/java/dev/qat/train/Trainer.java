package dev.qat.train;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Notes;
import dev.qat.tensor.Tensor;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;
import java.util.function.LongConsumer;

/** The loop both drivers share: feed, rate, step, look at the loss, say how it goes. */
final class Trainer {
    /** What a loop is called in progress lines and metrics; block −1 for none. */
    record Name(String stage, int block) {
        @Override
        public String toString() {
            return block < 0 ? stage : stage + ", block " + block;
        }
    }

    private final Run run;
    private final Name name;
    private final Schedule schedule;
    private final double rate;
    private final AdamW adam;
    private long fed, chains;
    private EndToEnd.After after = EndToEnd.After.NOTHING;
    /** How many runs of the step make one batch, and what ends it; null where the step does so itself. */
    private int parts = 1;
    private Step end;
    private double first = Double.NaN, last = Double.NaN;
    /** How often this loop was begun again at a lower rate. */
    private int attempt;

    Trainer(Run run, Name name, Schedule schedule, double rate, AdamW adam) {
        this.run = run;
        this.name = name;
        this.schedule = schedule;
        this.rate = rate;
        this.adam = adam;
    }

    /** For plans: how many bytes of the host a step is fed with, and what of the host a checkpoint holds beside what trains. */
    Trainer fed(long bytes, long standing) {
        fed = bytes;
        chains = standing;
        return this;
    }

    /** Does this after every step whose numbers are sound. */
    Trainer after(EndToEnd.After after) {
        this.after = after;
        return this;
    }

    /** Makes every batch of so many parts: {@code begin} before them, and {@code end}, the update, behind. */
    Trainer inParts(int count, Step update) {
        parts = count;
        end = update;
        return this;
    }

    /**
     * Runs {@code step} {@code total} times. The host is one step ahead of what it has seen: while a step computes, the loss and
     * the norm of the one before are looked at, and a broken one stops all behind it ({@link AdamW#squaredNorm}).
     *
     * @param feed   uploads the batch of a step, or a part of one, which are counted through
     * @param loss   holds the step's loss   (1)  @param tokens of a step
     */
    void loop(Watch.Job job, long before, long total, LongConsumer feed, Step step, Tensor loss, long tokens) {
        if (run.plan() != null) {
            run.plan().add(name.stage, name.block, total * parts, tokens / parts, step.cost(), fed + 2 * step.cost().stowedBytes(), end == null ? adam.busBytes() : 0);
            if (end != null) run.plan().add(name.stage + ", update", name.block, total, 0, end.cost(), 0, adam.busBytes());
            run.plan().kept(adam.valueBytes(), adam.momentBytes(), chains);
            return;
        }
        Memory memory = run.backend().memory();
        // taken before the journal restores anything: where a block begins again if it breaks
        try (Snapshot start = name.block >= 0 && run.recipe().recovery().retries() > 0 && !run.journal().past() ? Snapshot.ofValues(memory, adam) : null;
             Notes notes = memory.notes(2, loss, adam.squaredNorm())) {
            new Loop(job, before, total, feed, step, tokens, start, notes).go();
        }
    }

    /** A loop at work: so many steps of it are issued, and of so many the numbers were seen. */
    private final class Loop {
        private final Watch.Job job;
        private final long before, total, tokens;
        private final LongConsumer feed;
        private final Step step;
        private final Snapshot start;
        private final Notes notes;
        private final Memory memory = run.backend().memory();
        private final Journal journal = run.journal();
        private long issued, seen, since = System.nanoTime();
        private double smooth = Double.NaN;
        private boolean checked;

        Loop(Watch.Job job, long before, long total, LongConsumer feed, Step step, long tokens, Snapshot start, Notes notes) {
            this.job = job;
            this.before = before;
            this.total = total;
            this.feed = feed;
            this.step = step;
            this.tokens = tokens;
            this.start = start;
            this.notes = notes;
        }

        void go() {
            Journal.Mark mark = journal.begin(name, memory, adam, total);
            issued = seen = mark.step();
            first = mark.first();
            last = mark.last();
            attempt = mark.attempt();
            while (true) {
                boolean keep = !journal.past() && journal.wants(issued, total);
                boolean all = keep || issued == total || after != EndToEnd.After.NOTHING || run.reads(issued - 1, total);
                if (!look(all ? issued : issued - 1)) continue;
                if (keep) journal.between(name, memory, adam, mark(), total);
                if (issued == total) break;
                if (seen == issued) since = System.nanoTime();
                issue();
            }
            journal.end(name, memory, adam, mark());
        }

        private Journal.Mark mark() {
            return new Journal.Mark(issued, attempt, first, last);
        }

        private double factor(long i) {
            return schedule.at(i, total) * Math.pow(run.recipe().recovery().rate(), attempt);
        }

        private void issue() {
            if (end != null) adam.clear(run.backend());
            for (long part = issued * parts; part < (issued + 1) * parts; part++) {
                feed.accept(part);
                if (part == issued * parts) adam.prepare(factor(issued));
                step.run();
            }
            if (end != null) end.run();
            notes.make();
            issued++;
        }

        /** Looks at the steps below {@code least}, and at others whose numbers are there; false where one broke and all begins again. */
        private boolean look(long least) {
            while (seen < least || notes.ready()) {
                float[] note = notes.read();
                double loss = note[0], norm = Math.sqrt(note[1]);
                if (!Double.isFinite(loss) || !Double.isFinite(norm)) {
                    beginAgain(loss, norm);
                    return false;
                }
                sound(seen++, loss, norm);
            }
            return true;
        }

        private void beginAgain(double loss, double norm) {
            broken(step, feed, seen, loss, norm, factor(seen) * rate, start == null);
            notes.forget();
            start.restoreValues(memory, adam);
            adam.restart(run.backend());
            issued = seen = 0;
        }

        private void sound(long i, double loss, double norm) {
            if (!checked) adam.checkAllReached(step.tape());
            checked = true;
            double factor = factor(i);
            after.step(factor);
            if (i == 0) first = loss;
            last = loss;
            long now = System.nanoTime();
            double seconds = (now - since) * 1e-9;
            since = now;
            smooth = Double.isNaN(smooth) ? seconds : 0.9 * smooth + 0.1 * seconds;
            run.metrics().step(name.stage, name.block, i, loss, norm, factor * rate, seconds, run.readings(i, total));
            journal.stepped(name, i + 1, total, loss, factor * rate, smooth);
            job.step(before + i + 1, line(loss, norm, factor * rate, smooth, tokens, parts * step.cost().flop()));
        }
    }

    /** Reports a broken step; returns where the loop is to begin again at a lower rate, else ends the run. */
    private void broken(Step step, LongConsumer feed, long at, double loss, double norm, double rate, boolean last) {
        String where = name.block < 0 ? name.stage : name.stage + " of block " + name.block;
        Optional<Diagnosis.Finding> finding = diagnosed(step, feed, at);
        String what = finding.map(Diagnosis.Finding::toString).orElse("every single result is finite, only their sum is not");
        Path report = FailureReport.write(run, name, at, attempt, loss, norm, rate, finding.orElse(null), adam);
        attempt++;
        if (!last && attempt <= run.recipe().recovery().retries()) {
            run.watch().say("%s, step %d: loss = %s, gradient norm = %s at learning rate %.1e: %s (%s). The block begins again at %s of that rate, attempt %d of %d."
                    .formatted(where, at, loss, norm, rate, what, report, run.recipe().recovery().rate(), attempt, run.recipe().recovery().retries()));
            return;
        }
        throw Fail.numeric("%s, step %d: loss = %s, gradient norm = %s at learning rate %.1e; %s. No model was written; %s says more. Lower the rate of this stage, or set its max-norm.",
                where, at, loss, norm, rate, what, report);
    }

    /** Repeats a step, part by part, with its own batch: that of the next may lie there. */
    private Optional<Diagnosis.Finding> diagnosed(Step step, LongConsumer feed, long at) {
        if (end != null) adam.clear(run.backend());
        Optional<Diagnosis.Finding> finding = Optional.empty();
        for (long part = at * parts; part < (at + 1) * parts && finding.isEmpty(); part++) {
            feed.accept(part);
            finding = Diagnosis.of(run.backend(), step);
        }
        return finding;
    }

    private String line(double loss, double norm, double rate, double seconds, long tokens, double flop) {
        return String.format(Locale.ROOT, "loss %.4g | norm %.2g | lr %.1e | %.0f ms | %.1fk tok/s | %.0f%% peak",
                loss, norm, rate, seconds * 1e3, tokens / seconds / 1e3, 100 * flop / seconds / run.peak());
    }

    double first() {
        return first;
    }

    double last() {
        return last;
    }
}
