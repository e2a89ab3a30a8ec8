package dev.qat.train;

import java.nio.file.Path;

/** Writes the pulse of a run at work, no more often than anybody would look. */
final class Heart implements AutoCloseable {
    private static final long BETWEEN = 5_000_000_000L; // nanoseconds

    private final Path run;
    private volatile Pulse pulse = Pulse.begin();
    private long last = System.nanoTime();
    private Prometheus endpoint;

    Heart(Path run) {
        this.run = run;
        pulse.write(run);
    }

    void beat(Trainer.Name name, long step, long steps, double loss, double rate, double secondsPerStep, double seconds) {
        pulse = pulse.at(name, step, steps, loss, rate, secondsPerStep, seconds);
        if (System.nanoTime() - last < BETWEEN) return;
        last = System.nanoTime();
        pulse.write(run);
    }

    Pulse pulse() {
        return pulse;
    }

    /** The last word; where even that cannot be written, the error that ended the run says more. */
    void end(String state, String why) {
        try {
            pulse.ended(state, why).write(run);
        } catch (RuntimeException lost) {
            // the directory is gone or full, which is what the run is ending with
        }
    }

    /** Answers Prometheus on this port from here on. */
    void serve(int port, String name) {
        endpoint = new Prometheus(port, name, this::pulse);
    }

    @Override
    public void close() {
        if (endpoint != null) endpoint.close();
    }
}
