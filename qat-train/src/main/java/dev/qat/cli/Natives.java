package dev.qat.cli;

import ai.djl.huggingface.tokenizers.jni.LibUtils;
import dev.qat.cuda.Redist;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.openblas.global.openblas_nolapack;

import static java.lang.foreign.ValueLayout.ADDRESS;

/**
 * Which native libraries load here. Nothing in it throws: a library that is not there is a sentence.
 *
 * <p>The CUDA libraries are only opened by name, as the dynamic linker would for JCuda, those of the profile {@code cuda-redist}
 * first; no CUDA call is made.
 */
final class Natives {
    /** A library of CUDA 12: the file the linker looks for, what brings it, and what to do. */
    private record Library(String name, String file, String what, String install) {}

    private static final String RUNTIME = "or use an image nvidia/cuda:12.6.3-runtime, or build with -Pcuda-redist (2 GB)";
    private static final List<Library> CUDA = List.of(
            new Library("cuda driver", "libcuda.so.1", "the NVIDIA driver",
                    "install the driver, 525 or newer (in a container: start it with --gpus all)"),
            new Library("cublas", "libcublas.so.12", "cuBLAS of CUDA 12",
                    "install libcublas-12-6 from NVIDIA's packages, " + RUNTIME),
            new Library("nvrtc", "libnvrtc.so.12", "the kernel compiler of CUDA 12",
                    "install cuda-nvrtc-12-6 from NVIDIA's packages, " + RUNTIME));

    private Natives() {}

    static List<Finding> findings() {
        return Stream.concat(Stream.of(openblas(), tokenizer()), CUDA.stream().map(Natives::find)).toList();
    }

    private static Finding openblas() {
        try {
            Path bindings = Path.of(Loader.load(openblas_nolapack.class));
            // JavaCPP does not bind the two functions that say what was built and which kernels were chosen
            Path file = bindings.resolveSibling("libopenblas_nolapack.so.0");
            SymbolLookup library = SymbolLookup.libraryLookup(file, Arena.global());
            String core = text(library, "openblas_get_corename"), config = text(library, "openblas_get_config");
            if (!forced()) return Finding.ok("openblas", "kernels for %s; %s", core, config);
            return Finding.warning("openblas", "kernels for %s, since the environment says OPENBLAS_CORETYPE=%s; those for this processor may be twice"
                    + " as fast: unset it to compare. %s", core, System.getenv("OPENBLAS_CORETYPE"), config);
        } catch (Throwable e) {
            return Finding.missing("openblas", "org.bytedeco:openblas 0.3.31 does not load (%s); JavaCPP unpacks it into"
                    + " ~/.javacpp, or where org.bytedeco.javacpp.cachedir says: is that folder writable?", reason(e));
        }
    }

    /** Whether the environment, not the processor, chooses OpenBLAS's kernels. */
    static boolean forced() {
        return !System.getenv().getOrDefault("OPENBLAS_CORETYPE", "").isEmpty();
    }

    /** What a function {@code const char *name(void)} returns. */
    private static String text(SymbolLookup library, String name) throws Throwable {
        var call = Linker.nativeLinker().downcallHandle(library.findOrThrow(name), FunctionDescriptor.of(ADDRESS));
        MemorySegment text = (MemorySegment) call.invokeExact();
        return text.reinterpret(1024).getString(0).strip();
    }

    private static Finding tokenizer() {
        try {
            LibUtils.checkStatus();
            return Finding.ok("tokenizer", "the native library of ai.djl.huggingface:tokenizers loads");
        } catch (Throwable e) {
            return Finding.missing("tokenizer", "the native library of ai.djl.huggingface:tokenizers does not load (%s);"
                    + " it is unpacked into ~/.djl.ai, or where DJL_CACHE_DIR says: is that folder writable?", reason(e));
        }
    }

    private static Finding find(Library library) {
        try (Arena arena = Arena.ofConfined()) {
            Redist.load();
            SymbolLookup.libraryLookup(library.file(), arena);
            return Finding.ok(library.name(), "%s found", library.file());
        } catch (IllegalArgumentException | UnsatisfiedLinkError e) {
            String advice = unlisted(library.file())
                    .map(folder -> "it lies in " + folder + ": add that folder to LD_LIBRARY_PATH")
                    .orElse("to train on a GPU, " + library.install());
            return Finding.missing(library.name(), "%s (%s) not found; %s", library.file(), library.what(), advice);
        }
    }

    /** The usual folder that holds a library the linker was not told of. */
    private static Optional<Path> unlisted(String file) {
        return Stream.of("/usr/local/cuda/lib64", "/usr/local/cuda-12/lib64", "/usr/local/cuda-12.6/lib64", "/usr/lib/wsl/lib")
                .map(Path::of).filter(folder -> Files.exists(folder.resolve(file))).findFirst();
    }

    /** The innermost message, as the outer ones only say that something did not load. */
    private static String reason(Throwable e) {
        Throwable cause = e;
        while (cause.getCause() != null) cause = cause.getCause();
        return cause.getMessage() == null ? cause.getClass().getSimpleName()
                : cause.getMessage().lines().findFirst().orElse("");
    }
}
