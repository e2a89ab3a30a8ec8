package dev.qat.watch;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Instant;
import java.time.temporal.ChronoUnit;

/**
 * What a run does just now, for {@code qat status}: status.json in its directory, written anew every few seconds.
 *
 * @param state   running, stopped (run it again), failed, or finished  @param why of the last three
 * @param process and {@code host} that work on it  @param step of {@code steps} in the loop at work; 0 of 0 between loops
 */
public record Pulse(String state, String why, long process, String host, String stage, int block, long step, long steps, double loss, double rate, double secondsPerStep,
                    double seconds, String started, String updated) {
    private static final JsonMapper JSON = JsonMapper.builder().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build();

    public static final String RUNNING = "running", STOPPED = "stopped", FAILED = "failed", FINISHED = "finished";

    static Pulse begin() {
        String now = now();
        return new Pulse(RUNNING, "", ProcessHandle.current().pid(), here(), "", -1, 0, 0, Double.NaN, Double.NaN, Double.NaN, 0, now, now);
    }

    private static String now() {
        return Instant.now().truncatedTo(ChronoUnit.SECONDS).toString();
    }

    private static String here() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "unknown";
        }
    }

    Pulse at(String stage, int block, long step, long steps, double loss, double rate, double secondsPerStep, double seconds) {
        return new Pulse(RUNNING, "", process, host, stage, block, step, steps, loss, rate, secondsPerStep, seconds, started, now());
    }

    /** The same a little later. */
    Pulse again() {
        return new Pulse(state, why, process, host, stage, block, step, steps, loss, rate, secondsPerStep, seconds, started, now());
    }

    Pulse ended(String state, String why) {
        return new Pulse(state, why, process, host, stage, block, step, steps, loss, rate, secondsPerStep, seconds, started, now());
    }

    /** The pulse of a run; null for a directory that has none. */
    public static Pulse of(Path run) {
        Path file = file(run);
        if (!Files.isRegularFile(file)) return null;
        try {
            return JSON.readValue(Files.readAllBytes(file), Pulse.class);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", file, e.getMessage());
        }
    }

    private static Path file(Path run) {
        return run.resolve("status.json");
    }

    /** Replaces the file at once, without waiting for the disk: it is written often, and nothing depends on it. */
    void write(Path run) {
        Path file = file(run), temporary = run.resolve(".status.json.tmp");
        try {
            Files.writeString(temporary, JSON.writerWithDefaultPrettyPrinter().writeValueAsString(this) + "\n");
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot write: %s. Is the disk full, or the output directory gone?", file, e);
        }
    }
}
