package dev.qat.cli;

/**
 * How far a task has come: a bar where a person watches, log lines everywhere else, both on standard error.
 *
 * <pre>{@code
 * try (Progress progress = Progress.start("train", steps)) {
 *     for (long i = 1; i <= steps; i++) progress.step(i, "loss 2.3412 | norm 0.91 | lr 1.0e-05 | 412 ms");
 * }
 * }</pre>
 */
public sealed interface Progress extends AutoCloseable permits ProgressLine, ProgressLog {
    /** Starts a task of so many steps; {@link #close} ends it. */
    static Progress start(String task, long totalSteps) {
        return Terminal.ERR.live()
                ? new ProgressLine(System.err, Terminal.ERR::width, Terminal.ERR.draws(), task, totalSteps)
                : new ProgressLog(System.err, System::nanoTime, task, totalSteps);
    }

    /** So many steps are done; {@code details} is shown beside, ready made. Cheap enough to call at every step. */
    void step(long done, String details);

    /** Prints a line of its own, above the bar where there is one. */
    void say(String line);

    @Override
    void close();
}
