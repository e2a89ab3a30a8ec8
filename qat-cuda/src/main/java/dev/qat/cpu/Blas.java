package dev.qat.cpu;

import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

/**
 * OpenBLAS, called on raw addresses. OpenBLAS itself runs single-threaded: the backend's own team shares out the rows of a
 * product, so that one set of threads does everything and the order of every sum is fixed.
 */
final class Blas {
    private static final int ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112;
    private static final MethodHandle SGEMM, DGEMM, SOMATCOPY, SET_THREADS, CORE;

    static {
        try {
            String path = org.bytedeco.javacpp.Loader.load(org.bytedeco.openblas.global.openblas_nolapack.class);
            SymbolLookup lib = SymbolLookup.libraryLookup(library(path), Arena.global());
            Linker linker = Linker.nativeLinker();
            SGEMM = linker.downcallHandle(lib.findOrThrow("cblas_sgemm"), FunctionDescriptor.ofVoid(
                    JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_FLOAT, JAVA_LONG, JAVA_INT,
                    JAVA_LONG, JAVA_INT, JAVA_FLOAT, JAVA_LONG, JAVA_INT));
            DGEMM = linker.downcallHandle(lib.findOrThrow("cblas_dgemm"), FunctionDescriptor.ofVoid(
                    JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_DOUBLE, ADDRESS, JAVA_INT,
                    ADDRESS, JAVA_INT, JAVA_DOUBLE, ADDRESS, JAVA_INT), Linker.Option.critical(true));
            SOMATCOPY = linker.downcallHandle(lib.findOrThrow("cblas_somatcopy"), FunctionDescriptor.ofVoid(
                    JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_FLOAT, JAVA_LONG, JAVA_INT, JAVA_LONG, JAVA_INT));
            SET_THREADS = linker.downcallHandle(lib.findOrThrow("openblas_set_num_threads"), FunctionDescriptor.ofVoid(JAVA_INT));
            CORE = linker.downcallHandle(lib.findOrThrow("openblas_get_corename"), FunctionDescriptor.of(ADDRESS));
            SET_THREADS.invokeExact(1);
        } catch (Throwable e) {
            throw Fail.device("OpenBLAS could not be loaded (%s). Expected org.bytedeco:openblas 0.3.31 for this platform on the class path.", e);
        }
    }

    private Blas() {}

    /** JavaCPP loads its own bindings; the library they bind lies beside them. */
    private static java.nio.file.Path library(String bindings) {
        java.nio.file.Path dir = java.nio.file.Path.of(bindings).getParent();
        for (String name : new String[] {"libopenblas_nolapack.so.0", "libopenblas.so.0", "libopenblas_nolapack.0.dylib", "libopenblas.0.dylib", "libopenblas_nolapack.dll", "libopenblas.dll"}) {
            if (java.nio.file.Files.exists(dir.resolve(name))) return dir.resolve(name);
        }
        throw Fail.device("no libopenblas beside %s", bindings);
    }

    /** The processor family OpenBLAS chose its kernels for. */
    static String core() {
        try {
            var name = (MemorySegment) CORE.invokeExact();
            return name.reinterpret(64).getString(0);
        } catch (Throwable e) {
            throw Fail.internal("openblas_get_corename: %s", e);
        }
    }

    /** c = alpha · op(a) · op(b) + beta · c, row-major: op(a) (m, k), op(b) (k, n), c (m, n); addresses of fp32, leading dimensions in elements. */
    static void gemm(boolean ta, boolean tb, long m, long n, long k, float alpha, long a, long lda, long b, long ldb, float beta, long c, long ldc) {
        try {
            SGEMM.invokeExact(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, (int) m, (int) n, (int) k, alpha, a, (int) lda,
                    b, (int) ldb, beta, c, (int) ldc);
        } catch (Throwable e) {
            throw Fail.internal("sgemm %d x %d x %d: %s", m, n, k, e);
        }
    }

    /** c = op(a) · op(b), as above, of doubles in arrays; no collection of garbage begins before it ends, so it should be a piece of some tenths of a second. */
    static void gemm(boolean ta, boolean tb, int m, int n, int k, MemorySegment a, int lda, MemorySegment b, int ldb, MemorySegment c, int ldc) {
        try {
            DGEMM.invokeExact(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, m, n, k, 1.0, a, lda, b, ldb, 0.0, c, ldc);
        } catch (Throwable e) {
            throw Fail.internal("dgemm %d x %d x %d: %s", m, n, k, e);
        }
    }

    /** y (cols, rows) = xᵀ of x (rows, cols), row-major; addresses of fp32, leading dimensions in elements. */
    static void transpose(long y, long ldy, long x, long ldx, long rows, long cols) {
        try {
            SOMATCOPY.invokeExact(ROW_MAJOR, TRANS, (int) rows, (int) cols, 1f, x, (int) ldx, y, (int) ldy);
        } catch (Throwable e) {
            throw Fail.internal("somatcopy %d x %d: %s", rows, cols, e);
        }
    }
}
