package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** scripts/gpu-check as a shell script: its steps stand alone, its report is whole, its exit status is its verdict. */
final class GpuCheckTest {
    @TempDir
    Path temp;

    private record Outcome(int status, List<String> report) {
        boolean has(String part) {
            return report.stream().anyMatch(l -> l.contains(part));
        }
    }

    /** A dry run with a stand-in for qat that says what it was asked and fails where it is told to. */
    private Outcome run(String failing) throws Exception {
        Path root = Path.of(System.getProperty("qat.root", "..")).toAbsolutePath().normalize();
        Path qat = Files.writeString(temp.resolve("qat"), "#!/usr/bin/env bash\necho \"asked: $*\"\n[[ \"$*\" != " + failing + " ]]\n"), report = temp.resolve("report.txt");
        assertTrue(qat.toFile().setExecutable(true));
        ProcessBuilder b = new ProcessBuilder("bash", root.resolve("scripts/gpu-check").toString(), "--dry", report.toString()).redirectErrorStream(true);
        b.environment().put("QAT", qat.toString());
        Process p = b.start();
        p.getInputStream().readAllBytes();
        assertTrue(p.waitFor(60, TimeUnit.SECONDS));
        return new Outcome(p.exitValue(), Files.readAllLines(report));
    }

    @Test
    void everyPartIsInTheReport() throws Exception {
        Outcome o = run("nothing");
        assertEquals(0, o.status, String.join("\n", o.report));
        for (String part : List.of("== machine", "asked: doctor", "== correctness", "on a device: mvn", "-Dqat.cuda=device", "asked: bench ops 32 64 96 2 64 32 2 --backend cpu",
                "asked: bench block-ap 64 96 2 32 2 2 32 3 --backend cpu", "asked: train examples/first-run.yaml backend=cpu", "all green")) {
            assertTrue(o.has(part), part + " is not in\n" + String.join("\n", o.report));
        }
    }

    @Test
    void aStepThatFailsIsNamedAndTheOthersStillRun() throws Exception {
        Outcome o = run("*ops*");
        assertEquals(1, o.status);
        assertTrue(o.has("asked: train"));
        assertFalse(o.has("all green"));
        assertTrue(o.report.getLast().startsWith("FAILED: ") && o.report.getLast().contains("bench ops"), o.report.getLast());
    }
}
