package dev.qat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The rules of the house, read from the sources themselves: who may import whom, and how long things may get. */
class ArchitectureTest {
    private static final Path ROOT = Path.of(System.getProperty("qat.root", ".")).toAbsolutePath().normalize();

    /** The corridor, left to right, with the packages that live in each module: a module imports only what stands to its left. */
    private static final Map<String, Set<String>> CORRIDOR = new LinkedHashMap<>();

    static {
        CORRIDOR.put("qat-cuda", Set.of("tensor", "ops", "cpu", "cuda"));
        CORRIDOR.put("qat-data", Set.of("data"));
        CORRIDOR.put("qat-eval", Set.of("eval"));
        CORRIDOR.put("qat-train", Set.of("model", "method", "watch", "train", "export", "cli"));
    }

    /**
     * Inside a module, what a package's main sources may not know: data nothing of ops, ops of no device, the model of no method, a run's
     * onlookers nothing of training.
     */
    private static final Map<String, Set<String>> BLIND = Map.of("tensor", Set.of("ops", "cpu", "cuda"), "ops", Set.of("cpu", "cuda"), "cpu", Set.of("cuda"),
            "model", Set.of("method", "watch", "train", "export", "cli"), "watch", Set.of("model", "method", "train", "export", "cli"),
            "train", Set.of("cli"), "method", Set.of("cli", "export"), "export", Set.of("cli"));

    private static final int MOST_LINES = 400, LONG = 300, README = 150, DESIGN = 200;

    /** Files that were longer when this rule was made, and may not grow: split them and strike them out. */
    private static final Map<String, Integer> DEBTS = Map.of("JCudaDevice.java", 700, "StandInTest.java", 450);

    private static final Pattern JCUDA = Pattern.compile("\\bjcuda\\."), USE = Pattern.compile("\\bdev\\.qat\\.([a-z]+)\\b"), PACKAGE = Pattern.compile("(?m)^package dev\\.qat(?:\\.([a-z]+))?;");

    /** @param module such as qat-data  @param where src/main or src/test */
    private record Source(String module, String where, Path file, String text) {
        /** What is left without comments, texts and the package's own name, where a name is no use of it. */
        String code() {
            return text.replaceAll("(?s)/\\*.*?\\*/", "").replaceAll("(?m)^\\s*//.*$", "").replaceAll("(?s)\"\"\".*?\"\"\"", "")
                    .replaceAll("\"(?:\\\\.|[^\"\\\\\n])*+\"", "").replaceAll("(?m)^package .*$", "");
        }

        String name() {
            return file.getFileName().toString();
        }
    }

    private static List<Source> sources() throws IOException {
        List<Source> all = new ArrayList<>();
        for (String module : CORRIDOR.keySet()) {
            for (String where : List.of("src/main", "src/test")) {
                Path folder = ROOT.resolve(module).resolve(where).resolve("java");
                if (!Files.isDirectory(folder)) continue;
                try (Stream<Path> files = Files.walk(folder)) {
                    for (Path f : files.filter(p -> p.toString().endsWith(".java")).sorted().toList()) all.add(new Source(module, where, f, Files.readString(f)));
                }
            }
        }
        assertTrue(all.size() > 150, "only " + all.size() + " sources found under " + ROOT + "; is the property qat.root right?");
        return all;
    }

    private static List<String> broken(Source s) {
        List<String> wrong = new ArrayList<>();
        List<String> order = List.copyOf(CORRIDOR.keySet());
        Matcher own = PACKAGE.matcher(s.text), use = USE.matcher(s.code());
        String home = own.find() && own.group(1) != null ? own.group(1) : "";
        while (use.find()) {
            String used = use.group(1);
            String owner = order.stream().filter(m -> CORRIDOR.get(m).contains(used)).findFirst().orElse(null);
            if (owner == null) wrong.add(s.name() + " uses dev.qat." + used + ", which no module is known to hold");
            else if (order.indexOf(owner) > order.indexOf(s.module)) wrong.add(s.name() + " in " + s.module + " uses dev.qat." + used + " of " + owner + ", to its right");
            else if (s.where.equals("src/main") && BLIND.getOrDefault(home, Set.of()).contains(used)) wrong.add(s.name() + " in dev.qat." + home + " uses dev.qat." + used);
        }
        if (!home.isEmpty() && !CORRIDOR.get(s.module).contains(home)) wrong.add(s.name() + ": the package dev.qat." + home + " does not live in " + s.module);
        if (JCUDA.matcher(s.code()).find() && !s.name().equals("JCudaDevice.java")) wrong.add(s.name() + " uses jcuda, which only JCudaDevice may");
        return wrong;
    }

    @Test
    void everyArrowRunsToTheLeft() throws IOException {
        List<String> wrong = sources().stream().flatMap(s -> broken(s).stream()).distinct().toList();
        assertEquals(List.of(), wrong);
    }

    /** The rule has teeth. */
    @Test
    void anArrowToTheRightIsSeen() {
        assertEquals(1, broken(source("qat-data", "package dev.qat.data;\nimport dev.qat.eval.Task;\n")).size());
        assertEquals(1, broken(source("qat-cuda", "package dev.qat.ops;\nclass X { Object x = new dev.qat.cpu.CpuBackend(1); }\n")).size());
        assertEquals(1, broken(source("qat-cuda", "package dev.qat.cuda;\nimport static jcuda.driver.JCudaDriver.*;\n")).size());
        assertEquals(1, broken(source("qat-eval", "package dev.qat.train;\n")).size());
        assertEquals(1, broken(source("qat-train", "package dev.qat.model;\nimport dev.qat.method.Rtn;\n")).size());
        assertEquals(1, broken(source("qat-train", "package dev.qat.watch;\nimport dev.qat.train.Recipe;\n")).size());
        assertEquals(List.of(), broken(source("qat-eval", "package dev.qat.eval;\nimport dev.qat.data.CausalLm;\n/** Not {@link dev.qat.train.ModelLm}. */\n")));
    }

    private static Source source(String module, String text) {
        return new Source(module, "src/main", Path.of("X.java"), text);
    }

    @Test
    void filesStayShort() throws IOException {
        Map<String, Integer> longest = new TreeMap<>();
        List<String> wrong = new ArrayList<>();
        for (Source s : sources()) {
            int lines = (int) s.text.lines().count(), most = DEBTS.getOrDefault(s.name(), MOST_LINES);
            if (lines > LONG) longest.put(s.name(), lines);
            if (lines > most) wrong.add(s.name() + " has " + lines + " lines, expected at most " + most + "; split it");
            if (DEBTS.containsKey(s.name()) && lines <= MOST_LINES) wrong.add(s.name() + " is short enough now; strike it out of DEBTS");
        }
        System.out.println("sources over " + LONG + " lines: " + longest);
        assertEquals(List.of(), wrong);
        assertEquals(Set.of(), DEBTS.keySet().stream().filter(name -> !longest.containsKey(name)).collect(Collectors.toSet()), "gone; strike them out of DEBTS");
    }

    @Test
    void thePagesForStrangersStayShort() throws IOException {
        for (Map.Entry<String, Integer> page : Map.of("README.md", README, "DESIGN.md", DESIGN).entrySet()) {
            Path file = ROOT.resolve(page.getKey());
            if (!Files.exists(file)) continue;
            long lines = Files.readString(file).lines().count();
            assertTrue(lines <= page.getValue(), page.getKey() + " has " + lines + " lines, expected at most " + page.getValue());
        }
    }

    /** A path of the machine it was written on makes a file wrong everywhere else. */
    @Test
    void noFileKnowsTheMachineItWasWrittenOn() throws IOException {
        // put together here, so that this file does not hold them
        List<String> machine = Stream.of("work", "root").map(name -> "/" + name + "/").toList();
        List<String> wrong = new ArrayList<>();
        int read = 0;
        for (Path file : projectFiles(p -> Files.isRegularFile(p) && p.toFile().length() < 2_000_000)) {
            String text;
            try {
                text = Files.readString(file);
            } catch (CharacterCodingException binary) {
                continue;
            }
            read++;
            for (String path : machine) {
                // a path begins a word; "net/work/" does not
                Matcher m = Pattern.compile("(?<![\\w.])" + path).matcher(text);
                if (m.find()) wrong.add(ROOT.relativize(file) + ":" + text.substring(0, m.start()).lines().count() + " says " + path);
            }
        }
        assertTrue(read > 200, "only " + read + " files read");
        // a link is a path as well
        wrong.addAll(projectFiles(Files::isSymbolicLink).stream().map(p -> ROOT.relativize(p) + " is a link").toList());
        assertEquals(List.of(), wrong);
    }

    /** What the repository holds: everything but what builds, runs and tools leave behind. */
    private static List<Path> projectFiles(Predicate<Path> kind) throws IOException {
        Set<String> left = Set.of("target", "runs", ".git", ".idea", ".vscode");
        try (Stream<Path> all = Files.walk(ROOT)) {
            return all.filter(p -> {
                for (Path part : ROOT.relativize(p)) if (left.contains(part.toString())) return false;
                return kind.test(p);
            }).toList();
        }
    }
}
