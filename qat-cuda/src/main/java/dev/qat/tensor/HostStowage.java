package dev.qat.tensor;

/** Where host and device are one memory, or only counted: an arena, and no way to go. */
public final class HostStowage implements Stowage {
    private final Arena arena;
    private final Runnable free;
    private long largest;

    /** @param free gives back what is held for it, if anything is */
    public HostStowage(Arena arena, Runnable free) {
        this.arena = arena;
        this.free = free;
    }

    /** The most bytes that were put and not dropped. */
    public long peak() {
        return arena.peak();
    }

    /** Bytes of the largest tensor. */
    public long largest() {
        return largest;
    }

    @Override
    public Tensor put(String name, DType type, long... dims) {
        Tensor t = arena.alloc(name, type, dims);
        largest = Math.max(largest, t.bytes());
        return t;
    }

    @Override
    public void send(Tensor x) {}

    @Override
    public void fetch(Tensor x) {}

    @Override
    public void drop(Tensor x) {
        arena.free(x);
    }

    @Override
    public boolean holds(Tensor x) {
        return arena.holds(x);
    }

    @Override
    public void clear() {
        arena.release(0);
    }

    @Override
    public void close() {
        free.run();
    }
}
