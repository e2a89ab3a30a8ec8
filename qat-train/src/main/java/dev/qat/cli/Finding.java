package dev.qat.cli;

/** One thing the doctor looked at: its name, how it stands, and a sentence. */
record Finding(String name, State state, String text) {
    enum State { OK, WARNING, MISSING }

    static Finding ok(String name, String format, Object... args) {
        return new Finding(name, State.OK, format.formatted(args));
    }

    static Finding warning(String name, String format, Object... args) {
        return new Finding(name, State.WARNING, format.formatted(args));
    }

    static Finding missing(String name, String format, Object... args) {
        return new Finding(name, State.MISSING, format.formatted(args));
    }
}
