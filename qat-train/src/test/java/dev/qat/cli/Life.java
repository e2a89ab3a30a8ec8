package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** One process of the real command, for tests that end it in ways a test's own process would not survive. */
final class Life {
    final Process process;
    /** The directory of its run. */
    final Path run;
    private final File log;
    private final long before;

    /** Starts {@code qat words...}, whose run's directory is {@code run}; what it says goes to a file in {@code folder}. */
    Life(Path folder, Path run, Map<String, String> environment, List<String> words) throws IOException {
        this.run = run;
        log = File.createTempFile(run.getFileName().toString(), ".log", folder.toFile());
        before = Files.exists(metrics()) ? Files.getLastModifiedTime(metrics()).toMillis() : 0;
        List<String> java = List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "--add-modules", "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"), "dev.qat.cli.Main");
        ProcessBuilder b = new ProcessBuilder(Stream.concat(java.stream(), words.stream()).toList()).redirectErrorStream(true).redirectOutput(log);
        b.environment().putAll(environment);
        process = b.start();
    }

    private Path metrics() {
        return run.resolve("metrics.jsonl");
    }

    /** Waits until this process has taken a step, or is over. */
    void begun() throws Exception {
        while (process.isAlive() && !(Files.exists(metrics()) && Files.size(metrics()) > 0 && Files.getLastModifiedTime(metrics()).toMillis() != before)) Thread.sleep(1);
    }

    /** SIGKILL after so many milliseconds; false if it came to its end before that. */
    boolean killedAfter(long milliseconds) throws Exception {
        if (!process.waitFor(milliseconds, TimeUnit.MILLISECONDS)) process.destroyForcibly();
        return end() == 128 + 9;
    }

    int end() throws Exception {
        assertTrue(process.waitFor(10, TimeUnit.MINUTES), "it hangs, or the machine is very busy: " + said());
        return process.exitValue();
    }

    String said() throws IOException {
        return Files.readString(log.toPath());
    }
}
