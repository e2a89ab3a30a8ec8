package dev.qat.tensor;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * A stack of tensors in one slab: what a step allocates, it allocates here, so every step sees the same addresses.
 *
 * <p>{@link #mark} and {@link #release} bracket a life; releasing out of order throws. The high-water mark is kept with the
 * list of who was alive then. Without a slab ({@link #counting}) it only counts, which is how the slab's size is found.
 */
public final class Arena {
    private static final long ALIGN = 256;

    private record Live(String name, long offset, long bytes) {}

    /** One line of the table of who holds what. */
    public record Row(String name, long bytes) {}

    private final long base;
    private final long capacity;
    private final List<Live> live = new ArrayList<>();
    private List<Live> atPeak = List.of();
    private long top, peak;

    private Arena(long base, long capacity) {
        this.base = base;
        this.capacity = capacity;
    }

    public static Arena of(Memory memory, String owner, long bytes) {
        return new Arena(memory.allocate(owner, Math.max(bytes, ALIGN)), bytes);
    }

    /** An arena without memory: its addresses mean nothing, its peak is what a real one needs. */
    public static Arena counting() {
        return new Arena(ALIGN, Long.MAX_VALUE);
    }

    public Tensor alloc(String name, DType type, long... dims) {
        Tensor shape = new Tensor(name, type, 0, dims);
        long bytes = (shape.bytes() + ALIGN - 1) / ALIGN * ALIGN;
        if (bytes > capacity - top) {
            throw Fail.internal("the arena is full at %s: %,d of %,d bytes used, %,d wanted; the plan of this step was made for other shapes",
                    shape, top, capacity, bytes);
        }
        Tensor t = new Tensor(name, type, base + top, dims);
        live.add(new Live(name, top, bytes));
        top += bytes;
        if (top > peak) {
            peak = top;
            atPeak = null;
        }
        return t;
    }

    /** The place to come back to. */
    public long mark() {
        keepPeak();
        return top;
    }

    /** Gives back everything allocated since {@code mark}. */
    public void release(long mark) {
        Fail.unless(mark >= 0 && mark <= top, "arena released to %d, but its top is %d: out of order", mark, top);
        keepPeak();
        while (!live.isEmpty() && live.getLast().offset >= mark) live.removeLast();
        long end = live.isEmpty() ? 0 : live.getLast().offset + live.getLast().bytes;
        Fail.unless(end == mark, "arena released to %d, inside %s", mark, live.isEmpty() ? "nothing" : live.getLast().name);
        top = mark;
    }

    private void keepPeak() {
        if (atPeak == null && top == peak) atPeak = List.copyOf(live);
    }

    /** The most bytes that were ever held. */
    public long peak() {
        return peak;
    }

    public long capacity() {
        return capacity;
    }

    /** Who was alive at the peak, largest first, tensors of one name added up. */
    public List<Row> peakTable() {
        keepPeak();
        var sums = new java.util.LinkedHashMap<String, Long>();
        for (Live l : atPeak == null ? live : atPeak) sums.merge(l.name, l.bytes, Long::sum);
        return sums.entrySet().stream().map(e -> new Row(e.getKey(), e.getValue()))
                .sorted(Comparator.comparingLong(Row::bytes).reversed()).toList();
    }
}
