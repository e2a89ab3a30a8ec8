package dev.qat.cli;

import java.io.PrintStream;
import java.util.function.LongSupplier;

/**
 * Progress as log lines: {@code step 120 | loss 2.3412 | norm 0.91 | lr 1.0e-05 | 412 ms | 39.8k tok/s | 31% peak}.
 *
 * <p>The first and the last step always get a line. Between them one is due every ten seconds, and sooner, though never
 * twice in a second, when a twentieth of the task is done.
 */
final class ProgressLog implements Progress {
    private static final double OFTEN = 1, SELDOM = 10;      // seconds between two lines
    private static final int PARTS = 20;

    private final PrintStream out;
    private final LongSupplier nanos;
    private final String task;
    private final long total, started;
    private long done, lastStep, lastTime;

    ProgressLog(PrintStream out, LongSupplier nanos, String task, long total) {
        this.out = out;
        this.nanos = nanos;
        this.task = task;
        this.total = total;
        this.started = nanos.getAsLong();
        say(task + ": " + total + (total == 1 ? " step" : " steps"));
    }

    @Override
    public void step(long step, String details) {
        done = step;
        long now = nanos.getAsLong();
        double since = (now - lastTime) / 1e9;
        boolean part = (step - lastStep) * PARTS >= total && since >= OFTEN;
        if (lastStep > 0 && step < total && since < SELDOM && !part) return;
        lastStep = step;
        lastTime = now;
        say("step " + step + (details.isEmpty() ? "" : " | " + details));
    }

    @Override
    public void say(String line) {
        out.println(line);
        out.flush();
    }

    @Override
    public void close() {
        String time = Format.duration((nanos.getAsLong() - started) / 1e9);
        say(done >= total ? task + ": done in " + time
                : task + ": stopped after step " + done + " of " + total + ", " + time);
    }
}
