package dev.qat.train;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Optional;
import java.util.function.LongConsumer;

/** The loop both drivers share: rate, feed, step, look at the loss, say how it goes. */
final class Trainer {
    /** What a loop is called in progress lines and metrics; block −1 for none. */
    record Name(String stage, int block) {}

    private final Run run;
    private final Name name;
    private final Schedule schedule;
    private final double rate;
    private final AdamW adam;
    private long fed, chains;
    private EndToEnd.After after = _ -> {};
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

    private void compute(long i, double factor, LongConsumer feed, Step step) {
        if (end != null) adam.clear(run.backend());
        for (long part = i * parts; part < (i + 1) * parts; part++) {
            feed.accept(part);
            if (part == i * parts) adam.prepare(factor);
            step.run();
        }
        if (end != null) end.run();
    }

    /**
     * Runs {@code step} {@code total} times.
     *
     * @param feed   uploads the batch of a step, or a part of one, which are counted through  @param loss holds the step's summed loss, times {@code scale} its mean
     * @param tokens per step
     */
    void loop(Watch.Job job, long before, long total, LongConsumer feed, Step step, Tensor loss, double scale, long tokens) {
        if (run.plan() != null) {
            run.plan().add(name.stage, name.block, total * parts, tokens / parts, step.cost(), fed + 2 * step.cost().stowedBytes() + (end == null ? adam.busBytes() : 0));
            if (end != null) run.plan().add(name.stage + ", update", name.block, total, 0, end.cost(), adam.busBytes());
            run.plan().kept(adam.valueBytes(), adam.momentBytes(), chains);
            return;
        }
        Memory memory = run.backend().memory();
        // taken before the journal restores anything: where a block begins again if it breaks
        try (Snapshot start = name.block >= 0 && run.recipe().recovery().retries() > 0 && !run.journal().past() ? Snapshot.ofValues(memory, adam) : null) {
            Journal journal = run.journal();
            Journal.Mark mark = journal.begin(name, memory, adam, total);
            first = mark.first();
            last = mark.last();
            attempt = mark.attempt();
            double smooth = Double.NaN;
            boolean checked = false;
            for (long i = mark.step(); i < total; i++) {
                journal.between(name, memory, adam, new Journal.Mark(i, attempt, first, last), total);
                long begun = System.nanoTime();
                double rate = schedule.at(i, total) * Math.pow(run.recipe().recovery().rate(), attempt);
                compute(i, rate, feed, step);
                double value = memory.floats(loss)[0] * scale, norm = adam.norm();
                if (!Double.isFinite(value) || !Double.isFinite(norm)) {
                    broken(step, feed, i, value, norm, rate * this.rate, start == null);
                    start.restoreValues(memory, adam);
                    adam.restart(run.backend());
                    i = -1;
                    continue;
                }
                if (!checked) adam.checkAllReached(step.tape());
                checked = true;
                after.step(rate);
                if (i == 0) first = value;
                last = value;
                double seconds = (System.nanoTime() - begun) * 1e-9;
                smooth = Double.isNaN(smooth) ? seconds : 0.9 * smooth + 0.1 * seconds;
                run.metrics().step(name.stage, name.block, i, value, norm, rate * this.rate, seconds, run.readings(i, total));
                journal.stepped(name, i + 1, total, value, rate * this.rate, smooth);
                job.step(before + i + 1, line(value, norm, rate * this.rate, smooth, tokens, parts * step.cost().flop()));
            }
            Journal.Mark end = new Journal.Mark(total, attempt, first, last);
            if (!journal.past()) journal.between(name, memory, adam, end, total);
            journal.end(name, memory, adam, end);
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

    /** Repeats the step, part by part where it has parts. */
    private Optional<Diagnosis.Finding> diagnosed(Step step, LongConsumer feed, long at) {
        if (end == null) return Diagnosis.of(run.backend(), step);
        adam.clear(run.backend());
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
