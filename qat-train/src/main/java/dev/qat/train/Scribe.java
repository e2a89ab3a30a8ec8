package dev.qat.train;

import dev.qat.tensor.Fail;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;

/** Writes files one after the other on a thread of its own, in the order they were asked for. */
final class Scribe implements AutoCloseable {
    /** Pieces of work that may wait; each holds a copy of what a loop trains, so they are few. */
    private static final int WAITING = 3;

    private final ExecutorService thread = Executors.newSingleThreadExecutor(r -> {
        Thread t = new Thread(r, "checkpoints");
        t.setDaemon(true);
        return t;
    });
    private final Semaphore room = new Semaphore(WAITING);
    private volatile RuntimeException failure;

    /** Does the work when its turn comes; waits here only where too much is waiting already. */
    <T> Future<T> write(Callable<T> work) {
        room.acquireUninterruptibly();
        return thread.submit(() -> {
            try {
                if (failure != null) throw failure;
                return work.call();
            } catch (RuntimeException e) {
                if (failure == null) failure = e;
                throw e;
            } finally {
                room.release();
            }
        });
    }

    boolean idle() {
        return room.availablePermits() == WAITING;
    }

    /** Throws what went wrong in the background, if anything did. */
    void check() {
        if (failure != null) throw failure;
    }

    static <T> Future<T> ready(T value) {
        return CompletableFuture.completedFuture(value);
    }

    /** The result of a piece of work, waited for. */
    static <T> T get(Future<T> work) {
        try {
            return work.get();
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RuntimeException r) throw r;
            throw new IllegalStateException(e.getCause());
        } catch (InterruptedException e) {
            throw Fail.internal("interrupted while a checkpoint was written");
        }
    }

    /** Ends after what was asked for is written. */
    @Override
    public void close() {
        thread.close();
    }
}
