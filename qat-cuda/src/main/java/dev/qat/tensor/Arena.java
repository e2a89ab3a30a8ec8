package dev.qat.tensor;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * The tensors of a step in one slab: what a step allocates, it allocates here, in the same order every time, so every step sees
 * the same addresses.
 *
 * <p>A tensor goes into the smallest hole that takes it, else on top. {@link #mark} and {@link #release} bracket a life, {@link
 * #free} ends one early. The high-water mark is kept with the list of who was alive then. Without a slab ({@link #counting}) it
 * only counts, which is how the slab's size is found.
 */
public final class Arena {
    private static final long ALIGN = 256;

    private record Live(String name, long offset, long bytes, long serial) {}

    /** One line of the table of who holds what. */
    public record Row(String name, long bytes) {}

    private final long base;
    private final long capacity;
    /** By offset; the order of the map is that of allocation. */
    private final Map<Long, Live> live = new LinkedHashMap<>();
    /** Bytes of every hole below the top, by offset. */
    private final TreeMap<Long, Long> holes = new TreeMap<>();
    private List<Live> atPeak = List.of();
    private long top, peak, serial;

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

    /** An arena of the host's memory, which the device's kernels reach. */
    public static Arena onHost(Memory memory, String owner, long bytes) {
        return new Arena(memory.allocateOnHost(owner, Math.max(bytes, ALIGN)), bytes);
    }

    public long base() {
        return base;
    }

    public boolean holds(Tensor t) {
        return live.containsKey(t.address - base);
    }

    public Tensor alloc(String name, DType type, long... dims) {
        Tensor shape = new Tensor(name, type, 0, dims);
        long bytes = Math.max(ALIGN, (shape.bytes() + ALIGN - 1) / ALIGN * ALIGN), at = hole(bytes);
        if (at < 0) {
            if (bytes > capacity - top) {
                throw Fail.internal("the arena is full at %s: %,d of %,d bytes used, %,d wanted; the plan of this step was made for other shapes",
                        shape, top, capacity, bytes);
            }
            at = top;
            top += bytes;
        }
        live.put(at, new Live(name, at, bytes, serial++));
        if (top > peak) {
            peak = top;
            atPeak = null;
        }
        return new Tensor(name, type, base + at, dims);
    }

    /** Takes the smallest hole of at least so many bytes, the lowest of equals; −1 where there is none. */
    private long hole(long bytes) {
        long best = -1, size = Long.MAX_VALUE;
        for (Map.Entry<Long, Long> h : holes.entrySet()) {
            if (h.getValue() >= bytes && h.getValue() < size) {
                best = h.getKey();
                size = h.getValue();
            }
        }
        if (best < 0) return -1;
        holes.remove(best);
        if (size > bytes) holes.put(best + bytes, size - bytes);
        return best;
    }

    /** The place to come back to. */
    public long mark() {
        return serial;
    }

    /** Gives back everything allocated since {@code mark} that is still there. */
    public void release(long mark) {
        Fail.unless(mark >= 0 && mark <= serial, "arena released to %d, but only %d were allocated: out of order", mark, serial);
        keepPeak();
        List<Live> gone = live.values().stream().filter(l -> l.serial >= mark).toList();
        for (Live l : gone.reversed()) remove(l);
        serial = mark;
    }

    /** Lets a tensor that was allocated after {@code mark} stay when all since then is given back. */
    public void keep(Tensor t, long mark) {
        Live l = live.get(t.address - base);
        Fail.unless(l != null, "%s is not in this arena, or was given back before", t);
        if (l.serial >= mark) live.put(l.offset, new Live(l.name, l.offset, l.bytes, mark - 1));
    }

    /** Gives one tensor back before its mark does. */
    public void free(Tensor t) {
        Live l = live.get(t.address - base);
        Fail.unless(l != null, "%s is not in this arena, or was given back before", t);
        keepPeak();
        remove(l);
    }

    private void remove(Live l) {
        live.remove(l.offset);
        long from = l.offset, bytes = l.bytes;
        Map.Entry<Long, Long> below = holes.lowerEntry(from);
        if (below != null && below.getKey() + below.getValue() == from) {
            from = below.getKey();
            bytes += below.getValue();
        }
        Long above = holes.remove(l.offset + l.bytes);
        if (above != null) bytes += above;
        if (from + bytes < top) {
            holes.put(from, bytes);
            return;
        }
        holes.remove(from);
        top = from;
    }

    private void keepPeak() {
        if (atPeak == null && top == peak) atPeak = List.copyOf(live.values());
    }

    /** The most bytes that were ever held, holes among them. */
    public long peak() {
        return peak;
    }

    public long capacity() {
        return capacity;
    }

    /** Who was alive at the peak, largest first, tensors of one name added up. */
    public List<Row> peakTable() {
        keepPeak();
        var sums = new LinkedHashMap<String, Long>();
        for (Live l : atPeak == null ? new ArrayList<>(live.values()) : atPeak) sums.merge(l.name, l.bytes, Long::sum);
        return sums.entrySet().stream().map(e -> new Row(e.getKey(), e.getValue()))
                .sorted(Comparator.comparingLong(Row::bytes).reversed()).toList();
    }
}
