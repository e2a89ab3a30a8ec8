package dev.qat.train;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.Locale;
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
    private double first = Double.NaN, last = Double.NaN;

    Trainer(Run run, Name name, Schedule schedule, double rate, AdamW adam) {
        this.run = run;
        this.name = name;
        this.schedule = schedule;
        this.rate = rate;
        this.adam = adam;
    }

    /**
     * Runs {@code step} {@code total} times.
     *
     * @param feed   uploads the batch of a step  @param loss holds the step's summed loss, times {@code scale} its mean
     * @param tokens per step
     */
    void loop(Watch.Job job, long before, long total, LongConsumer feed, Step step, Tensor loss, double scale, long tokens) {
        if (run.plan() != null) {
            run.plan().add(name.stage, name.block, total, tokens, step.cost());
            return;
        }
        double smooth = Double.NaN;
        Memory memory = run.backend().memory();
        Journal journal = run.journal();
        Journal.Mark mark = journal.begin(name, memory, adam, total);
        first = mark.first();
        last = mark.last();
        boolean checked = false;
        for (long i = mark.step(); i < total; i++) {
            journal.between(name, memory, adam, new Journal.Mark(i, 0, first, last), total);
            long start = System.nanoTime();
            double factor = schedule.at(i, total);
            feed.accept(i);
            adam.prepare(factor);
            step.run();
            double value = memory.floats(loss)[0] * scale, norm = adam.norm();
            if (!Double.isFinite(value) || !Double.isFinite(norm)) broken(i, value, norm, rate * factor);
            if (!checked) adam.checkAllReached(step.tape());
            checked = true;
            if (i == 0) first = value;
            last = value;
            double seconds = (System.nanoTime() - start) * 1e-9;
            smooth = Double.isNaN(smooth) ? seconds : 0.9 * smooth + 0.1 * seconds;
            run.metrics().step(name.stage, name.block, i, value, norm, rate * factor, seconds);
            job.step(before + i + 1, line(value, norm, rate * factor, smooth, tokens, step.cost().flop()));
        }
        Journal.Mark end = new Journal.Mark(total, 0, first, last);
        if (!journal.past()) journal.between(name, memory, adam, end, total);
        journal.end(name, memory, adam, end);
    }

    private void broken(long step, double loss, double norm, double rate) {
        String where = name.block < 0 ? name.stage : name.stage + " of block " + name.block;
        throw Fail.numeric("%s, step %d: loss = %s, gradient norm = %s at learning rate %.1e. Nothing was written. Lower the rate of this stage, or set its max-norm.",
                where, step, loss, norm, rate);
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
