package dev.qat.data;

import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A safetensors file, mapped into memory and read tensor by tensor; files and tensors beyond 2 GB are fine.
 *
 * <p>The layout is checked whole when the file is opened (see {@link SafetensorsHeader}), so a tensor that is listed can be
 * read. Close it when the last tensor is read: slices handed out by {@link #bytes} die with it.
 */
public final class Safetensors implements AutoCloseable {
    /** One tensor: its bytes lie at [begin, end) counted from the start of the data.   shape: as stored, row-major. */
    public record Entry(String name, StoredType dtype, long[] shape, long begin, long end) {
        @Override
        public long[] shape() {
            return shape.clone();
        }

        /** Number of elements, 1 for a scalar. */
        public long count() {
            return (end - begin) / dtype.bytes();
        }

        @Override
        public String toString() {
            return name + " " + dtype + Arrays.toString(shape);
        }
    }

    private final Path file;
    private final Arena arena;
    private final MemorySegment data;
    private final Map<String, Entry> entries = new LinkedHashMap<>();
    private final Map<String, String> metadata;

    private Safetensors(Path file, Arena arena, MemorySegment whole) {
        SafetensorsHeader header = new SafetensorsHeader(file, whole);
        this.file = file;
        this.arena = arena;
        this.data = whole.asSlice(header.dataStart);
        this.metadata = header.metadata;
        for (Entry e : header.entries) entries.put(e.name(), e);
    }

    public static Safetensors open(Path file) {
        return Mapped.open(file, "safetensors", (arena, whole) -> new Safetensors(file, arena, whole));
    }

    public Path file() {
        return file;
    }

    /** The tensors' names, in the order their data lies in the file. */
    public List<String> names() {
        return List.copyOf(entries.keySet());
    }

    /** The file's own notes, such as {@code format: pt}. */
    public Map<String, String> metadata() {
        return Map.copyOf(metadata);
    }

    public boolean has(String name) {
        return entries.containsKey(name);
    }

    public Entry entry(String name) {
        Entry e = entries.get(name);
        if (e == null) {
            throw Fail.data("%s: has no tensor %s (it has %d others, such as %s); check the model type in config.json",
                    file, name, entries.size(), entries.keySet().stream().findFirst().orElse("none"));
        }
        return e;
    }

    /** The tensor's bytes as they lie in the file, little-endian, possibly unaligned; valid until {@link #close}. */
    public MemorySegment bytes(String name) {
        Entry e = entry(name);
        return data.asSlice(e.begin, e.end - e.begin);
    }

    /** floats = fp32(tensor) for F32, F16 and BF16.   floats (count), exactly. */
    public void read(String name, MemorySegment floats) {
        Entry e = entry(name);
        if (floats.byteSize() != 4 * e.count()) {
            throw Fail.data("%s: tensor %s has shape %s (%d elements), expected %d elements; config.json and the weights disagree",
                    file, name, Arrays.toString(e.shape), e.count(), floats.byteSize() / 4);
        }
        read(name, 0, floats);
    }

    /** floats = fp32(tensor's elements from {@code first} on).   floats (n), n ≤ count − first */
    public void read(String name, long first, MemorySegment floats) {
        Entry e = entry(name);
        if (!e.dtype.convertible()) {
            throw Fail.data("%s: tensor %s is %s, expected F32, F16 or BF16; a model that is already quantized cannot be loaded as weights",
                    file, name, e.dtype);
        }
        long size = e.dtype.bytes();
        e.dtype.widen(floats, bytes(name).asSlice(first * size, floats.byteSize() / 4 * size));
    }

    /** The tensor as an array, for small ones. */
    public float[] floats(String name) {
        Entry e = entry(name);
        if (e.count() > Integer.MAX_VALUE - 8) {
            throw Fail.data("%s: tensor %s has %d elements, too many for one array; read it into a segment", file, name, e.count());
        }
        float[] values = new float[(int) e.count()];
        read(name, MemorySegment.ofArray(values));
        return values;
    }

    @Override
    public void close() {
        arena.close();
    }
}
