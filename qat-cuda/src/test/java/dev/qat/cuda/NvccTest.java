package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.opentest4j.TestAbortedException;

/**
 * What NVIDIA's own compiler says of every kernel, for sm_80 and sm_90: registers, shared memory, and no spills and no stack.
 * The table stays in {@code target/kernels-nvcc.txt}; results are kept by content, so that only changed files are compiled.
 */
class NvccTest {
    private static final List<String> ARCHITECTURES = List.of("sm_80", "sm_90");
    /** Files that are compiled with defines: each set of them is compiled. */
    private static final Map<String, List<String>> DEFINES = Map.of(
        "attention.cu", List.of("D=32", "D=64", "D=96", "D=128"),
        "test/product.cu", List.of("LATE", ""));
    private static final List<String> TESTS = List.of("test/words.cu", "test/reduce.cu", "test/transpose.cu", "test/product.cu");
    private static final int AT_ONCE = 2;
    private static final Pattern WORD = Pattern.compile("__forceinline__ [\\w ]+?[ *&](\\w+)\\(");
    private static final Pattern FUNCTION = Pattern.compile("Compiling entry function '(\\w+)'[^\\n]*\\n(?:(?!Compiling entry)[\\s\\S])*?"
        + "(\\d+) bytes stack frame, (\\d+) bytes spill stores, (\\d+) bytes spill loads[\\s\\S]*?Used (\\d+) registers([^\\n]*)");
    private static final Pattern SHARED = Pattern.compile("(\\d+) bytes smem");

    private record Job(String file, String define, String architecture) {}

    @Test
    void everyKernelCompilesForDevicesWithoutSpills() throws Exception {
        String version = version();
        Path root = folder("/kernels/common.cuh");
        List<Job> jobs = new ArrayList<>();
        List<String> files = new ArrayList<>(TESTS);
        try (Stream<Path> all = Files.list(root)) {
            all.map(p -> p.getFileName().toString()).filter(n -> n.endsWith(".cu")).sorted().forEach(files::add);
        }
        for (String f : files) for (String d : DEFINES.getOrDefault(f, List.of(""))) for (String a : ARCHITECTURES) jobs.add(new Job(f, d, a));
        List<String> rows = new ArrayList<>();
        try (ExecutorService pool = Executors.newFixedThreadPool(AT_ONCE)) {
            List<Callable<String>> calls = jobs.stream().<Callable<String>>map(j -> () -> table(j, said(j, root, version))).toList();
            for (var row : pool.invokeAll(calls)) rows.add(row.get());
        }
        String table = "%-22s %-8s %-6s %-22s %9s %7s %6s %6s%n".formatted("file", "define", "arch", "kernel", "registers", "shared", "stack", "spills")
            + String.join("", rows);
        Files.writeString(StandIn.target().resolve("kernels-nvcc.txt"), version + "\n" + table);
        List<String> bad = table.lines().skip(1).filter(l -> !l.matches(".*\\s0\\s+0$")).toList();
        assertEquals(List.of(), bad, "kernels that spill registers or use a stack (columns as in target/kernels-nvcc.txt)");
        assertTrue(table.contains("words"), table);
    }

    /** A row per kernel of the file. */
    private static String table(Job job, String said) {
        StringBuilder rows = new StringBuilder();
        for (Matcher m = FUNCTION.matcher(said); m.find(); ) {
            Matcher shared = SHARED.matcher(m.group(6));
            rows.append("%-22s %-8s %-6s %-22s %9s %7s %6s %6d%n".formatted(job.file, job.define, job.architecture, m.group(1), m.group(5),
                shared.find() ? shared.group(1) : "0", m.group(2), Integer.parseInt(m.group(3)) + Integer.parseInt(m.group(4))));
        }
        assertFalse(rows.isEmpty(), () -> job + " has no kernel:\n" + said);
        return rows.toString();
    }

    /** What nvcc and ptxas say of a file, from the last time if nothing has changed since. */
    private static String said(Job job, Path root, String version) throws Exception {
        List<String> command = new ArrayList<>(List.of("nvcc", "-cubin", "-std=c++17", "--fmad=false", "-arch=" + job.architecture, "-Xptxas", "-v",
            "-I" + root, "-o", "/dev/null"));
        if (!job.define.isEmpty()) command.add("-D" + job.define);
        Kernels.Source source = Kernels.source(job.file.replaceAll("\\.cu$", ""));
        Path kept = Files.createDirectories(StandIn.target().resolve("nvcc")).resolve(hash(version + job + source) + ".txt");
        if (Files.exists(kept)) return Files.readString(kept);
        command.add(folder("/kernels/" + job.file).resolve(Path.of(job.file).getFileName()).toString());
        String said = run(command);
        Path beside = Files.writeString(kept.resolveSibling(kept.getFileName() + "." + ProcessHandle.current().pid()), said);
        Files.move(beside, kept, StandardCopyOption.ATOMIC_MOVE);
        return said;
    }

    private static String run(List<String> command) throws Exception {
        Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, p.waitFor(), () -> String.join(" ", command) + "\n" + said);
        return said;
    }

    private static String version() throws Exception {
        try {
            return run(List.of("nvcc", "--version")).lines().reduce((_, last) -> last).orElseThrow();
        } catch (IOException e) {
            System.err.println("\n*** SKIPPED: no nvcc on the PATH, so NVIDIA's compiler has not seen the kernels. ***\n");
            throw new TestAbortedException("no nvcc on the PATH");
        }
    }

    private static Path folder(String resource) throws Exception {
        URI at = NvccTest.class.getResource(resource).toURI();
        return Path.of(at).getParent();
    }

    private static String hash(String s) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(s.getBytes(StandardCharsets.UTF_8)), 0, 12);
    }

    @Test
    void theFileOfWordsHasEveryInstruction() {
        String words = Kernels.source("test/words").text(), common = Kernels.source("test/words").headers().get("common.cuh");
        common = common.substring(common.indexOf("#ifndef QAT_SIMT"), common.indexOf("#endif"));
        TreeSet<String> missing = new TreeSet<>();
        int all = 0;
        for (Matcher m = WORD.matcher(common); m.find(); all++) if (!words.contains(m.group(1))) missing.add(m.group(1));
        assertEquals(new TreeSet<>(), missing, "instructions of common.cuh that test/words.cu does not use");
        assertTrue(all >= 8, "found only " + all);
    }

    /** A runtime image has NVRTC and no headers. */
    @Test
    void kernelsIncludeNoHeadersButTheirOwn() throws Exception {
        try (Stream<Path> all = Files.list(folder("/kernels/common.cuh"))) {
            for (Path p : all.filter(Files::isRegularFile).toList())
                assertFalse(Pattern.compile("#\\s*include\\s*<").matcher(Files.readString(p)).find(), p.toString());
        }
    }

    /** The same text through g++ and simt.h. */
    @Test
    void everyWordRunsOnTheStandIn() {
        StandIn.load();
        try (JCudaDevice dev = StandIn.open()) {
            long x = Floats.put(dev, "x", new float[1024]), h = Floats.put(dev, "h", new short[1024]);
            dev.launch("test/words", "words", Blocks.of(1, 64).shared(1024), x, h, 64);
            dev.sync();
            StandIn.checkGuards();
        }
    }
}
