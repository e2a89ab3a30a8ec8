package dev.qat.cli;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import jdk.incubator.vector.FloatVector;

/** What the machine and its JVM offer, found under a root folder: {@code /}, or a made-up one in a test. */
final class Machine {
    private static final long LITTLE_DISK = 2L << 30;
    private static final int JDK = 25;

    private final Path root;

    Machine(Path root) {
        this.root = root;
    }

    List<Finding> findings() {
        return List.of(jdk(), vectors(), system(), cpu(), memory(), heap(), disk(Path.of("")), gpu());
    }

    /** Whether this JDK can run qat at all: 25 or newer, and one that ships the Vector API. */
    static boolean suits() {
        return Runtime.version().feature() >= JDK && ModuleLayer.boot().findModule("jdk.incubator.vector").isPresent();
    }

    private static Finding jdk() {
        String text = "%s, %s, %s".formatted(Runtime.version(), System.getProperty("java.vendor"),
                System.getProperty("java.home"));
        return Runtime.version().feature() >= JDK ? Finding.ok("jdk", "%s", text)
                : Finding.missing("jdk", "%s; expected JDK %d or newer: install one, or name it in QAT_JAVA", text, JDK);
    }

    private static Finding vectors() {
        if (ModuleLayer.boot().findModule("jdk.incubator.vector").isEmpty()) {
            return Finding.missing("vectors", "the module jdk.incubator.vector is not there; start Java with"
                    + " --add-modules jdk.incubator.vector, as the launcher ./qat does");
        }
        return Finding.ok("vectors", "%s", Width.text());
    }

    /** Apart, so that its class loads only where the module is there. */
    private static final class Width {
        static String text() {
            var species = FloatVector.SPECIES_PREFERRED;
            return species.vectorBitSize() + " bits, " + species.length() + " floats at a time";
        }
    }

    private static Finding system() {
        String os = System.getProperty("os.name"), arch = System.getProperty("os.arch");
        String text = os + " " + System.getProperty("os.version") + ", " + arch;
        return os.equals("Linux") && arch.equals("amd64") ? Finding.ok("system", "%s", text)
                : Finding.warning("system", "%s; the native libraries come for Linux on amd64 only", text);
    }

    private Finding cpu() {
        List<String> lines = lines("proc/cpuinfo");
        String model = field(lines, "model name").orElse("unknown processor");
        long all = lines.stream().filter(l -> l.startsWith("processor")).count();
        int cores = Runtime.getRuntime().availableProcessors();
        return Finding.ok("cpu", "%s, %d %s%s", model, cores, cores == 1 ? "core" : "cores",
                all > cores ? " of " + all + " open to this process" : "");
    }

    /** The host's memory, or what of it the container may have: the JVM's figure honours its limit, the kernel's does not. */
    static long memoryLimit() {
        return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getTotalMemorySize();
    }

    /** Bytes free where a folder lies or would lie; 0 for unknown. */
    static long free(Path folder) {
        Path at = folder.toAbsolutePath();
        while (at.getParent() != null && !Files.exists(at)) at = at.getParent();
        try {
            return Files.getFileStore(at).getUsableSpace();
        } catch (IOException e) {
            return 0;
        }
    }

    private Finding memory() {
        long limit = memoryLimit();
        Optional<Long> physical = kibibytes("MemTotal"), free = kibibytes("MemAvailable");
        String available = free.map(bytes -> ", " + Format.bytes(bytes) + " available").orElse("");
        if (physical.isPresent() && limit < physical.get()) {
            return Finding.ok("memory", "%s%s; the cgroup allows %s",
                    Format.bytes(physical.get()), available, Format.bytes(limit));
        }
        return Finding.ok("memory", "%s%s; no cgroup limit", Format.bytes(physical.orElse(limit)), available);
    }

    private static Finding heap() {
        return Finding.ok("heap", "up to %s; QAT_JAVA_OPTS=-Xmx16g would allow 16 GiB",
                Format.bytes(Runtime.getRuntime().maxMemory()));
    }

    private static Finding disk(Path folder) {
        Path here = folder.toAbsolutePath();
        try {
            long free = Files.getFileStore(here).getUsableSpace();
            if (!Files.isWritable(here)) return Finding.warning("disk", "%s cannot be written to", here);
            return free >= LITTLE_DISK ? Finding.ok("disk", "%s free in %s", Format.bytes(free), here)
                    : Finding.warning("disk", "only %s free in %s; a checkpoint may not fit", Format.bytes(free), here);
        } catch (IOException e) {
            return Finding.warning("disk", "free space of %s is unknown (%s)", here, e.getMessage());
        }
    }

    /** The device files and the driver's own account of the cards, neither of which needs a CUDA call. */
    private Finding gpu() {
        List<Path> devices = list("dev").stream()
                .filter(p -> p.getFileName().toString().matches("nvidia\\d+")).sorted().toList();
        if (devices.isEmpty()) {
            return Finding.missing("gpu", "no /dev/nvidia0: training runs on the processor;"
                    + " with a card, install the NVIDIA driver, and start a container with --gpus all");
        }
        List<String> models = list("proc/driver/nvidia/gpus").stream().sorted()
                .flatMap(gpu -> field(lines(gpu.resolve("information")), "Model").stream()).toList();
        String names = models.isEmpty() ? "" : ": " + String.join(", ", models);
        return Finding.ok("gpu", "%d %s%s", devices.size(), devices.size() == 1 ? "card" : "cards", names);
    }

    private Optional<Long> kibibytes(String name) {
        return field(lines("proc/meminfo"), name).map(v -> Long.parseLong(v.replaceAll("\\D", "")) << 10);
    }

    /** The value behind a name in the {@code name : value} lines that the kernel writes. */
    private static Optional<String> field(List<String> lines, String name) {
        return lines.stream().filter(l -> l.matches("\\Q" + name + "\\E\\s*:.*"))
                .map(l -> l.substring(l.indexOf(':') + 1).strip()).findFirst();
    }

    private List<String> lines(String file) {
        return lines(root.resolve(file));
    }

    /** A file's lines, none where it cannot be read: the report then says less, but it comes. */
    private static List<String> lines(Path file) {
        try {
            return Files.readAllLines(file);
        } catch (IOException e) {
            return List.of();
        }
    }

    private List<Path> list(String folder) {
        try (Stream<Path> files = Files.list(root.resolve(folder))) {
            return files.toList();
        } catch (IOException e) {
            return List.of();
        }
    }
}
