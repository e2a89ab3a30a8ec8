package dev.qat.cpu;

import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/**
 * A fixed team of threads that share out ranges of rows. The caller is the first of the team. Shares depend on the number of
 * threads only, never on timing, so results are the same bits from run to run.
 */
final class Threads implements AutoCloseable {
    /** One thread's share of the work: rows {@code from} (inclusive) to {@code to}. */
    @FunctionalInterface
    interface Share {
        void run(int thread, long from, long to);
    }

    /** How long an idle thread looks for work before it sleeps: ops of a step follow each other within microseconds. */
    private static final long IDLE_NANOS = 200_000;
    /** After so long a waiting thread offers its core to others: on a crowded machine one of them may be the one it waits for. */
    private static final long SPIN_NANOS = 20_000;

    private final int count;
    private final Thread[] helpers;
    /** The ticket of the job to do; helpers do each ticket once. */
    private final AtomicLong ticket = new AtomicLong();
    private final AtomicLong[] done;
    private volatile boolean closed;
    private Share share;
    private long rows, unit;
    private volatile Throwable failure;

    Threads(int count) {
        this.count = count;
        this.helpers = new Thread[count - 1];
        this.done = new AtomicLong[count - 1];
        for (int i = 0; i < helpers.length; i++) {
            int id = i;
            done[i] = new AtomicLong();
            helpers[i] = new Thread(() -> help(id), "qat-" + (i + 1));
            helpers[i].setDaemon(true);
            helpers[i].start();
        }
    }

    int count() {
        return count;
    }

    /** Runs {@code share} over {@code rows} cut into one contiguous range per thread, at multiples of {@code unit}. */
    void each(long rows, long unit, Share share) {
        if (rows <= 0) return;
        if (count == 1 || rows <= unit) {
            share.run(0, 0, rows);
            return;
        }
        this.share = share;
        this.rows = rows;
        this.unit = unit;
        long job = ticket.incrementAndGet();
        for (Thread h : helpers) LockSupport.unpark(h);
        try {
            part(0);
        } catch (Throwable e) {
            failure = e;
        }
        long start = System.nanoTime();
        for (AtomicLong d : done) while (d.get() != job) pause(start);
        if (failure != null) rethrow();
    }

    private void rethrow() {
        Throwable e = failure;
        failure = null;
        if (e instanceof RuntimeException r) throw r;
        if (e instanceof Error r) throw r;
        throw new IllegalStateException(e);
    }

    private void part(int thread) {
        long units = (rows + unit - 1) / unit;
        long from = units * thread / count * unit, to = Math.min(rows, units * (thread + 1) / count * unit);
        if (from < to) share.run(thread, from, to);
    }

    private void help(int id) {
        long seen = 0;
        while (!closed) {
            long now = await(seen);
            if (now == seen) continue;
            try {
                part(id + 1);
            } catch (Throwable e) {
                failure = e;
            }
            seen = now;
            done[id].set(now);
        }
    }

    private long await(long seen) {
        long start = System.nanoTime();
        while (ticket.get() == seen && !closed) {
            if (System.nanoTime() - start > IDLE_NANOS) LockSupport.park(this);
            else pause(start);
        }
        return ticket.get();
    }

    private static void pause(long start) {
        if (System.nanoTime() - start > SPIN_NANOS) Thread.yield();
        else Thread.onSpinWait();
    }

    @Override
    public void close() {
        closed = true;
        for (Thread h : helpers) LockSupport.unpark(h);
    }
}
