package dev.qat.train;

/** Whether somebody outside wants the run to keep what it has and end: set by a signal, looked at between steps. */
public final class Stop {
    private volatile String wish;

    /** {@code why} in words, such as the signal's name. */
    public void ask(String why) {
        wish = why;
    }

    /** Who asked; null while nobody did. */
    String wish() {
        return wish;
    }
}
