package dev.qat.watch;

import java.nio.file.Path;

/** Writes the pulse of a run at work, no more often than anybody would look. */
public final class Heart implements AutoCloseable {
    private static final long BETWEEN = 5_000_000_000L; // nanoseconds

    private final Path run;
    private volatile Pulse pulse = Pulse.begin();
    private long last = System.nanoTime();
    private Prometheus endpoint;

    /** Shows at once that the run is at work. */
    public Heart(Path run) {
        this.run = run;
        pulse.write(run);
    }

    /** A step is taken; {@code block} is −1 outside block-wise training, and {@code seconds} are those of work so far. */
    public void beat(String stage, int block, long step, long steps, double loss, double rate, double secondsPerStep, double seconds) {
        beat(pulse.at(stage, block, step, steps, loss, rate, secondsPerStep, seconds));
    }

    /** Still at work, on what has no steps of its own. */
    public void beat() {
        beat(pulse.again());
    }

    private void beat(Pulse now) {
        pulse = now;
        if (System.nanoTime() - last < BETWEEN) return;
        last = System.nanoTime();
        now.write(run);
    }

    /** Whoever watches, and this heart beats at every step of every job, of sampling for example. */
    public Watch watched(Watch by) {
        return new Watch() {
            @Override
            public Job job(String title, long steps) {
                Job job = by.job(title, steps);
                return new Job() {
                    @Override
                    public void step(long done, String details) {
                        beat();
                        job.step(done, details);
                    }

                    @Override
                    public void close() {
                        job.close();
                    }
                };
            }

            @Override
            public boolean reads() {
                return by.reads();
            }

            @Override
            public void say(String line) {
                beat();
                by.say(line);
            }
        };
    }

    Pulse pulse() {
        return pulse;
    }

    /** The last word; where even that cannot be written, the error that ended the run says more. */
    public void end(String state, String why) {
        try {
            pulse.ended(state, why).write(run);
        } catch (RuntimeException lost) {
            // the directory is gone or full, which is what the run is ending with
        }
    }

    /** Answers Prometheus on this port from here on. */
    public void serve(int port, String name) {
        endpoint = new Prometheus(port, name, this::pulse);
    }

    @Override
    public void close() {
        if (endpoint != null) endpoint.close();
    }
}
