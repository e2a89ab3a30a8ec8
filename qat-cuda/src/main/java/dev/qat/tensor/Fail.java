package dev.qat.tensor;

/**
 * The one exception the project throws on purpose: a sentence a user can act on (what, where, got, expected, what to do
 * next) and the exit code the command ends with.
 *
 * <p>Exit codes: 0 done, 2 usage or recipe, 65 bad data, 69 device unavailable, 70 internal, 74 input/output,
 * 75 checkpointed on request (run me again), 79 numerical failure (NaN or Inf).
 */
public final class Fail extends RuntimeException {
    public static final int USAGE = 2, DATA = 65, DEVICE = 69, INTERNAL = 70, IO = 74, AGAIN = 75, NUMERIC = 79;

    private final int code;

    private Fail(int code, String message, Throwable cause) {
        super(message, cause);
        this.code = code;
    }

    public int code() {
        return code;
    }

    public static Fail usage(String format, Object... args) {
        return new Fail(USAGE, format.formatted(args), null);
    }

    public static Fail data(String format, Object... args) {
        return new Fail(DATA, format.formatted(args), null);
    }

    public static Fail device(String format, Object... args) {
        return new Fail(DEVICE, format.formatted(args), null);
    }

    public static Fail numeric(String format, Object... args) {
        return new Fail(NUMERIC, format.formatted(args), null);
    }

    public static Fail internal(String format, Object... args) {
        return new Fail(INTERNAL, format.formatted(args), null);
    }

    public static Fail io(Throwable cause, String format, Object... args) {
        return new Fail(IO, format.formatted(args), cause);
    }

    public static Fail again(String format, Object... args) {
        return new Fail(AGAIN, format.formatted(args), null);
    }

    /** Throws an internal error unless {@code fact} holds: for promises between the project's own parts. */
    public static void unless(boolean fact, String format, Object... args) {
        if (!fact) throw internal(format, args);
    }
}
