package dev.qat.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

class DoctorTest {
    private static final List<String> NAMES = List.of("jdk", "vectors", "system", "cpu", "memory", "heap", "disk", "gpu",
            "openblas", "tokenizer", "cuda driver", "cublas", "nvrtc");

    @TempDir
    Path root;

    private static String doctor(String... options) {
        PrintStream real = System.out;
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, UTF_8));
        try {
            String[] args = new String[options.length + 1];
            args[0] = "doctor";
            System.arraycopy(options, 0, args, 1, options.length);
            assertEquals(0, Main.run(args));
        } finally {
            System.setOut(real);
        }
        return out.toString(UTF_8);
    }

    @Test
    void theReportHasALineForEach() {
        List<String> lines = doctor().lines().toList();
        assertTrue(lines.getFirst().startsWith("qat "));
        assertEquals(NAMES.size(), lines.size() - 1);
        for (int i = 0; i < NAMES.size(); i++) {
            assertTrue(lines.get(i + 1).matches("(ok|warning|missing) +" + NAMES.get(i) + " +\\S.*"), lines.get(i + 1));
        }
    }

    @Test
    void whatTheBuildItselfBringsIsThere() throws IOException {
        JsonNode report = new ObjectMapper().readTree(doctor("--json"));
        assertTrue(report.get("suits").asBoolean());
        List<JsonNode> checks = StreamSupport.stream(report.get("checks").spliterator(), false).toList();
        assertEquals(NAMES, checks.stream().map(c -> c.get("name").asText()).toList());
        for (JsonNode check : checks) {
            String name = check.get("name").asText();
            if (!List.of("jdk", "vectors", "openblas", "tokenizer").contains(name)) continue;
            assertEquals(name.equals("openblas") && Natives.forced() ? "warning" : "ok", check.get("state").asText(), check.toString());
        }
    }

    @Test
    void aMachineIsReadFromItsFiles() throws IOException {
        write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast CPU\n" + "processor\t: 1\n".repeat(999));
        write("proc/meminfo", "MemTotal:       8796093022208 kB\nMemAvailable:    2097152 kB\n");
        write("dev/nvidia0", "");
        write("dev/nvidia1", "");
        write("dev/nvidiactl", "");
        write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H100\nIRQ: 1\n");
        String text = Doctor.text(new Machine(root).findings(), Integer.MAX_VALUE);
        assertTrue(text.matches("(?s).*ok +cpu +Fast CPU, \\d+ cores? of 1000 open to this process\n.*"), text);
        assertTrue(text.matches("(?s).*ok +memory +8.0 PiB, 2.0 GiB available; the cgroup allows .*"), text);
        assertTrue(text.contains("2 cards: NVIDIA H100\n"), text);
    }

    @Test
    void aMachineWithoutFilesStillReports() {
        String text = Doctor.text(new Machine(root.resolve("nothing")).findings(), Integer.MAX_VALUE);
        assertTrue(text.contains("unknown processor"), text);
        assertTrue(text.contains("no /dev/nvidia0"), text);
    }

    @Test
    void aTerminalGetsFoldedLines() {
        String text = Doctor.text(List.of(Finding.ok("cpu", "one two three four")), 32);
        assertEquals("ok       cpu          one two\n                      three four\n",
                text.substring(text.indexOf('\n') + 1));
    }

    private void write(String file, String text) throws IOException {
        Files.createDirectories(root.resolve(file).getParent());
        Files.writeString(root.resolve(file), text);
    }
}
