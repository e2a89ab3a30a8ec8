package dev.qat.train;

/** Whether somebody outside wants the run to keep what it has and end: set by a signal, looked at between steps. */
public final class Stop {
    private volatile String wish;
    private volatile boolean heeded;

    /** {@code why} in words, such as the signal's name; the first reason stands. */
    public synchronized void ask(String why) {
        if (wish == null) wish = why;
    }

    public boolean asked() {
        return wish != null;
    }

    /** Who asked; null while nobody did. */
    String wish() {
        return wish;
    }

    /** Says that from now on a run looks at this. */
    public Stop heed() {
        heeded = true;
        return this;
    }

    public boolean heeded() {
        return heeded;
    }
}
