package dev.qat.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.opentest4j.TestAbortedException;

/**
 * The stand-in CUDA: builds the libraries of {@code src/test/cpp} with g++ (once per text, into {@code target/standin}),
 * loads them before JCuda asks for NVIDIA's, and is a test's way to their counters, guards, seeds and faults.
 *
 * <p>A test says {@code try (JCudaDevice dev = StandIn.open())}. Without g++ it is skipped, loudly. With
 * {@code -Dqat.cuda=device} the device is the machine's own, and tests that ask the stand-in something are skipped.
 */
public final class StandIn {
    /** What fresh device, pinned and shared memory holds: a NaN as float, double, bfloat16 and half. */
    public static final int POISON = 0x7ff97ff9;
    /** How far device addresses are moved from the host's: no device address is one that the host could read. */
    public static final long AWAY = 1L << 62;
    /** Errors of the driver API that tests inject. */
    public static final int ILLEGAL_ADDRESS = 700, OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719;

    private static final String COMPILER = "g++", COMMON = " -std=c++17 -g0 -fPIC -march=native -U_FORTIFY_SOURCE -Wall -Wextra";
    // A kernel's arithmetic as it stands in the text, nothing contracted; and what the compiler can check, checked.
    private static final String KERNEL = "-std=c++17 -O2 -g0 -fPIC -march=native -U_FORTIFY_SOURCE -w -ffp-contract=off"
        + " -fno-strict-aliasing -fno-math-errno -fno-trapping-math -ftrivial-auto-var-init=pattern -fno-exceptions -fno-rtti"
        + " -fvisibility=hidden -fsanitize=alignment,bounds -fno-sanitize-recover=all";
    private static final String KERNEL_LINK = " -shared -nodefaultlibs -lm -lc -lgcc";
    private static final int BUILD_SECONDS = 300;

    /** What the stand-in has counted since {@link #open}: calls of the API (work inside a graph's replay only as kernels). */
    public record Counters(long launches, long graphLaunches, long kernels, long gemms, long uploads, long downloads, long copies,
                           long fills, long uploadedBytes, long downloadedBytes, long syncs, long allocs, long frees,
                           long liveBytes, long peakBytes, long pinnedBytes, long modules, long compiles, long stalls) {
        private static final int COUNT = Counters.class.getRecordComponents().length;
    }

    /** The libraries, loaded once for this JVM, and their doors. */
    private static final class Libraries {
        static final Path FOLDER = build();
        static final MemorySegment COUNTERS;

        static {
            for (String library : List.of("libcuda.so.1", "libcublas.so.12", "libnvrtc.so.12")) System.load(FOLDER.resolve(library).toString());
            COUNTERS = ((MemorySegment) call("standin_counters", ADDRESS)).reinterpret(8L * Counters.COUNT);
            call("standin_folder", null, FOLDER.toString());
            call("standin_nvrtc", null, version(), COMPILER, KERNEL + KERNEL_LINK);
        }

        /** NVRTC's version: other headers, or another g++, make other kernels, and a cache must tell them apart. */
        static int version() {
            return Math.floorMod(hash(FOLDER, ".h").hashCode(), 1_000_000) + 1000;
        }
    }

    private StandIn() {}

    /** Whether tests use the stand-in, as they do unless {@code -Dqat.cuda=device} says otherwise. */
    public static boolean standing() {
        return !"device".equals(System.getProperty("qat.cuda"));
    }

    /** Loads the stand-in, before JCuda looks for NVIDIA's libraries, or skips the test. */
    public static void load() {
        if (!standing()) throw new TestAbortedException("this test asks something of the stand-in CUDA, and -Dqat.cuda=device");
        if (!Compiler.THERE) {
            System.err.println("\n*** SKIPPED: no g++ here, so this test executes nothing of the CUDA path. Install g++. ***\n");
            throw new TestAbortedException("the stand-in CUDA needs g++");
        }
        if (Libraries.FOLDER == null) throw new AssertionError("the stand-in did not load");
    }

    private static final class Compiler {
        static final boolean THERE = ran(Path.of("."), COMPILER + " --version") != null;
    }

    /** A fresh device: the stand-in's, with counters, seed and faults as at first, or with -Dqat.cuda=device the machine's. */
    public static JCudaDevice open() {
        if (standing()) reset();
        return JCudaDevice.open(0, target().resolve("standin-cache"));
    }

    /**
     * The environment in which a process of its own, started without a line of test code, meets the stand-in where it looks for
     * NVIDIA's libraries. It needs no g++ for kernels that lie in {@code cache}/kernels already.
     */
    public static Map<String, String> environment(Path cache) {
        load();
        return Map.of("LD_LIBRARY_PATH", Libraries.FOLDER.toString(), "STANDIN_FOLDER", Libraries.FOLDER.toString(),
            "STANDIN_NVRTC", String.valueOf(Libraries.version()), "STANDIN_FLAGS", KERNEL + KERNEL_LINK, "QAT_CACHE", cache.toString());
    }

    /** Counters to zero but for what is alive, seed 0, no faults, no broken context, the usual pretended device. */
    public static void reset() {
        load();
        call("standin_reset", null);
    }

    public static Counters counters() {
        load();
        long[] c = Libraries.COUNTERS.toArray(JAVA_LONG);
        return new Counters(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15], c[16], c[17], c[18]);
    }

    /** The order in which blocks, warps and lanes run from here on. */
    public static void seed(long seed) {
        load();
        call("standin_seed", null, seed);
    }

    /** Lets lanes run ahead of being waited for, by chance of this seed; 0 for never, as at first. */
    public static void haste(long seed) {
        load();
        call("standin_haste", null, seed);
    }

    /** What the stand-in says it is: how many devices, their compute capability, the driver's CUDA version, their memory. */
    public static void pretend(int devices, int major, int minor, int driver, long memory) {
        load();
        call("standin_pretend", null, devices, major, minor, driver, memory);
    }

    /** The n-th allocation from here on (1 is the next) runs out of memory. */
    public static void failAllocation(long n) {
        load();
        call("standin_fault", null, n, 0L, 0, 0L, 0);
    }

    /** The n-th launch of a kernel or a graph from here on is refused with an error code. */
    public static void failLaunch(long n, int code) {
        load();
        call("standin_fault", null, 0L, n, code, 0L, 0);
    }

    /** The n-th kernel to run from here on breaks, which a later wait will say; the device is useless until {@link #reset}. */
    public static void failKernel(long n, int code) {
        load();
        call("standin_fault", null, 0L, 0L, 0, n, code);
    }

    /** Finishes all work and fails if a guard word around any allocation, alive or freed since the last call, was overwritten. */
    public static void checkGuards() {
        String harm = harm();
        if (harm != null) throw new AssertionError(harm);
    }

    /** What {@link #checkGuards} would say, or null. */
    static String harm() {
        load();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(ADDRESS);
            long bytes = (Long) call("standin_check", JAVA_LONG, text);
            return bytes == 0 ? null : "%d guard bytes overwritten; %s".formatted(bytes,
                text.get(ADDRESS, 0).reinterpret(Long.MAX_VALUE).getString(0));
        }
    }

    /** Calls one of the stand-in's own functions. */
    private static Object call(String name, MemoryLayout result, Object... args) {
        MemoryLayout[] layouts = Stream.of(args).map(a -> switch (a) {
            case Integer _ -> JAVA_INT;
            case Long _ -> JAVA_LONG;
            default -> ADDRESS;
        }).toArray(MemoryLayout[]::new);
        FunctionDescriptor type = result == null ? FunctionDescriptor.ofVoid(layouts) : FunctionDescriptor.of(result, layouts);
        MethodHandle function = Linker.nativeLinker().downcallHandle(SymbolLookup.loaderLookup().findOrThrow(name), type);
        try (Arena arena = Arena.ofConfined()) {
            return function.invokeWithArguments(Stream.of(args).map(a -> a instanceof String s ? arena.allocateFrom(s) : a).toList());
        } catch (Throwable t) {
            throw new AssertionError(name, t);
        }
    }

    // ---- building ----------------------------------------------------------------------------------------------------

    /** This module's folder, whichever module's tests are running. */
    private static Path module() {
        String root = System.getProperty("qat.root");
        Path at = root == null ? Path.of("").toAbsolutePath() : Path.of(root).toAbsolutePath();
        while (at != null && !Files.isDirectory(at.resolve("qat-cuda/src/test/cpp"))) at = at.getParent();
        if (at == null) throw new AssertionError("no qat-cuda/src/test/cpp at or above " + root);
        return at.resolve("qat-cuda").normalize();
    }

    /** Where the libraries lie. */
    static Path folder() {
        load();
        return Libraries.FOLDER;
    }

    public static Path target() {
        return module().resolve("target");
    }

    /** The folder with the libraries, named after a hash of all that goes into them; made beside and moved into place. */
    private static Path build() {
        try {
            Path sources = module().resolve("src/test/cpp"), all = Files.createDirectories(target().resolve("standin"));
            Path folder = all.resolve(hash(sources, ""));
            if (Files.isDirectory(folder)) return folder;
            Path beside = Files.createTempDirectory(all, "new-");
            try (Stream<Path> files = Files.list(sources)) {
                for (Path f : files.toList()) Files.copy(f, beside.resolve(f.getFileName()));
            }
            library(beside, "cuda", "libcuda.so.1", "-O2", "");
            library(beside, "cublas", "libcublas.so.12", "-O3", " libcuda.so.1");
            library(beside, "nvrtc", "libnvrtc.so.12", "-O2", " libcuda.so.1");
            need(beside, COMPILER + " " + KERNEL + " -x c++-header simt.h -o simt.h.gch");
            Files.setPosixFilePermissions(beside, PosixFilePermissions.fromString("rwxr-xr-x")); // other users, in containers, read it
            try {
                Files.move(beside, folder, StandardCopyOption.ATOMIC_MOVE);
            } catch (IOException e) {
                if (!Files.isDirectory(folder)) throw e;         // another process was first, with the same text
            }
            return folder;
        } catch (IOException e) {
            throw new AssertionError("cannot build the stand-in CUDA", e);
        }
    }

    private static void library(Path folder, String name, String soname, String level, String with) {
        need(folder, COMPILER + COMMON + " " + level + " -shared -Wl,-soname," + soname + " -Wl,--version-script=lib" + name + ".map lib"
            + name + ".cpp -o " + soname + with + " -ldl -lpthread");
    }

    private static void need(Path folder, String command) {
        String said = ran(folder, command);
        if (said == null || !said.isBlank()) throw new AssertionError(command + "\n" + said);
    }

    /** A command's output, or null where there is no such command; an error throws. */
    private static String ran(Path folder, String command) {
        try {
            Process p = new ProcessBuilder(command.strip().split("\\s+")).directory(folder.toFile()).redirectErrorStream(true).start();
            String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            if (!p.waitFor(BUILD_SECONDS, TimeUnit.SECONDS) || p.exitValue() != 0) throw new AssertionError(command + "\n" + said);
            return said;
        } catch (IOException e) {
            return null;
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** Of the texts whose names end so, of the compiler and what it is asked. */
    private static String hash(Path sources, String end) {
        try (Stream<Path> files = Files.list(sources)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            for (Path f : files.filter(f -> f.toString().endsWith(end)).filter(Files::isRegularFile).sorted().toList()) digest.update(Files.readAllBytes(f));
            digest.update((COMMON + KERNEL + KERNEL_LINK + ran(sources, COMPILER + " -march=native -Q --help=target")).getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest.digest(), 0, 8);
        } catch (GeneralSecurityException | IOException e) {
            throw new AssertionError(e);
        }
    }
}
