package dev.qat.tensor;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

/**
 * Zeroed memory straight from Linux in 2 MiB pages: a product walks hundreds of rows at once, and with 4 KiB pages every one
 * of them is another entry of the translation buffer.
 */
final class Pages {
    static final long HUGE = 2L << 20;
    private static final int READ_WRITE = 1 | 2, PRIVATE_ANONYMOUS = 2 | 32, ADVISE_HUGE = 14;
    private static final MethodHandle MMAP, MUNMAP, MADVISE;

    static {
        Linker linker = Linker.nativeLinker();
        var lib = linker.defaultLookup();
        boolean linux = System.getProperty("os.name").equals("Linux");
        MMAP = linux ? linker.downcallHandle(lib.findOrThrow("mmap"), FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_LONG)) : null;
        MUNMAP = linux ? linker.downcallHandle(lib.findOrThrow("munmap"), FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG)) : null;
        MADVISE = linux ? linker.downcallHandle(lib.findOrThrow("madvise"), FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT)) : null;
    }

    private Pages() {}

    static boolean available() {
        return MMAP != null;
    }

    /** What is really reserved for {@code bytes}: room to start at a page of 2 MiB. */
    static long reserved(long bytes) {
        return (bytes + HUGE - 1) / HUGE * HUGE + HUGE;
    }

    /** The start of a reservation, or 0 where the system has no memory for it. */
    static long map(long bytes) {
        try {
            var at = (MemorySegment) MMAP.invokeExact(MemorySegment.NULL, reserved(bytes), READ_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
            if (at.address() == -1) return 0;
            int advised = (int) MADVISE.invokeExact(at, reserved(bytes), ADVISE_HUGE); // advice: a kernel without huge pages says no
            return at.address();
        } catch (Throwable e) {
            throw Fail.internal("mmap of %d bytes: %s", bytes, e);
        }
    }

    static void unmap(long start, long bytes) {
        try {
            int done = (int) MUNMAP.invokeExact(MemorySegment.ofAddress(start), reserved(bytes));
            Fail.unless(done == 0, "munmap of %d bytes at %x failed", bytes, start);
        } catch (Fail e) {
            throw e;
        } catch (Throwable e) {
            throw Fail.internal("munmap: %s", e);
        }
    }
}
