package dev.qat.cli;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

/**
 * What stands at the other end of standard output or standard error.
 *
 * <p>{@code System.console().isTerminal()} answers for standard input and output together, but progress goes to standard
 * error and tables to standard output, each of which may be redirected alone. So each is asked for its own window size:
 * only a terminal has one.
 */
enum Terminal {
    OUT(1), ERR(2);

    /** Linux's request for a terminal's window size, {@code struct winsize} of four shorts: rows, columns, two unused. */
    private static final long TIOCGWINSZ = 0x5413;
    private static final int UNKNOWN_WIDTH = 80;

    private final int descriptor;

    Terminal(int descriptor) {
        this.descriptor = descriptor;
    }

    /** Whether a person watches this stream on a terminal that can move its cursor back. */
    boolean live() {
        String kind = System.getenv().getOrDefault("TERM", "dumb");
        return !kind.equals("dumb") && columns() > 0;
    }

    /** The columns of a line: the window's where there is one, now, and 80 elsewhere. */
    int width() {
        int columns = columns();
        return columns > 0 ? columns : UNKNOWN_WIDTH;
    }

    /** Whether box lines and bars can be drawn. */
    boolean draws() {
        return live() && (this == OUT ? System.out : System.err).charset().equals(StandardCharsets.UTF_8);
    }

    /** The window's columns, or 0 where there is no terminal. */
    private int columns() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment size = arena.allocate(JAVA_SHORT, 4);
            int result = (int) Ioctl.HANDLE.invokeExact(descriptor, TIOCGWINSZ, size);
            if (result != 0) return 0;
            int columns = Short.toUnsignedInt(size.getAtIndex(JAVA_SHORT, 1));
            return columns > 0 ? columns : UNKNOWN_WIDTH;    // some terminals do not know their size
        } catch (Throwable e) {
            return 0;                                        // a platform without ioctl gets plain lines
        }
    }

    /** Looked up only when first asked, as the look-up takes longer than many a command. */
    private static final class Ioctl {
        static final MethodHandle HANDLE = Linker.nativeLinker().downcallHandle(
                Linker.nativeLinker().defaultLookup().findOrThrow("ioctl"),
                FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS), Linker.Option.firstVariadicArg(2));
    }
}
