package dev.qat.data;

import dev.qat.data.GgufHeader.Value;
import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A GGUF v3 file, mapped into memory and read tensor by tensor, any type decoded to fp32.
 *
 * <p>The head is checked whole when the file is opened (see {@link GgufHeader}), so a tensor that is listed can be read.
 * Close it when the last tensor is read: slices handed out by {@link #bytes} die with it.
 */
public final class Gguf implements AutoCloseable {
    /** One tensor: its bytes lie at [begin, end) counted from the start of the data.   ne: as stored, the row's length first. */
    public record Entry(String name, GgmlType type, long[] ne, long begin, long end) {
        @Override
        public long[] ne() {
            return ne.clone();
        }

        /** Number of weights. */
        public long count() {
            return (end - begin) / type.bytes * type.elements;
        }

        @Override
        public String toString() {
            return name + " " + type + Arrays.toString(ne);
        }
    }

    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Path file;
    private final Arena arena;
    private final GgufHeader header;
    private final MemorySegment data;

    private Gguf(Path file, Arena arena, MemorySegment whole) {
        this.file = file;
        this.arena = arena;
        this.header = new GgufHeader(file, whole);
        this.data = whole.asSlice(Math.min(header.dataStart, whole.byteSize()));
    }

    public static Gguf open(Path file) {
        return Mapped.open(file, "gguf", (arena, whole) -> new Gguf(file, arena, whole));
    }

    public Path file() {
        return file;
    }

    /** The tensors' names, in the order of their data. */
    public List<String> names() {
        return List.copyOf(header.entries.keySet());
    }

    public boolean has(String name) {
        return header.entries.containsKey(name);
    }

    public Entry entry(String name) {
        Entry e = header.entries.get(name);
        if (e == null) {
            throw Fail.data("%s: has no tensor %s (it has %d others, such as %s); the file holds another architecture or is incomplete",
                    file, name, header.entries.size(), header.entries.keySet().stream().findFirst().orElse("none"));
        }
        return e;
    }

    /** The tensor's bytes as they lie in the file; valid until {@link #close}. */
    public MemorySegment bytes(String name) {
        Entry e = entry(name);
        return data.asSlice(e.begin, e.end - e.begin);
    }

    /** floats = the tensor's weights, decoded.   floats (count), exactly. */
    public void read(String name, MemorySegment floats) {
        Entry e = entry(name);
        if (floats.byteSize() != 4 * e.count()) {
            throw Fail.data("%s: tensor %s has %d weights, expected %d; metadata and tensors disagree", file, name, e.count(), floats.byteSize() / 4);
        }
        e.type.decode(floats, bytes(name));
    }

    /** The names of all metadata, in the file's order. */
    public List<String> keys() {
        return List.copyOf(header.values.keySet());
    }

    public boolean hasKey(String key) {
        return header.values.containsKey(key);
    }

    /** A whole number of any width. */
    public long whole(String key) {
        Value v = single(key);
        return switch (v.type()) {
            case GgufValue.U8, GgufValue.BOOL -> v.bytes().get(ValueLayout.JAVA_BYTE, 0) & 0xff;
            case GgufValue.I8 -> v.bytes().get(ValueLayout.JAVA_BYTE, 0);
            case GgufValue.U16 -> Blocks.half(v.bytes().toArray(ValueLayout.JAVA_BYTE), 0) & 0xffff;
            case GgufValue.I16 -> Blocks.half(v.bytes().toArray(ValueLayout.JAVA_BYTE), 0);
            case GgufValue.U32 -> Integer.toUnsignedLong(v.bytes().get(INT, 0));
            case GgufValue.I32 -> v.bytes().get(INT, 0);
            case GgufValue.U64, GgufValue.I64 -> v.bytes().get(LONG, 0);
            default -> throw wrong(key, "a whole number");
        };
    }

    public double number(String key) {
        Value v = single(key);
        return switch (v.type()) {
            case GgufValue.F32 -> Float.intBitsToFloat(v.bytes().get(INT, 0));
            case GgufValue.F64 -> Double.longBitsToDouble(v.bytes().get(LONG, 0));
            default -> whole(key);
        };
    }

    public boolean flag(String key) {
        if (single(key).type() != GgufValue.BOOL) throw wrong(key, "true or false");
        return whole(key) != 0;
    }

    public String text(String key) {
        Value v = single(key);
        if (v.type() != GgufValue.STRING) throw wrong(key, "a text");
        return GgufHeader.string(v.bytes());
    }

    public List<String> texts(String key) {
        Value v = list(key, GgufValue.STRING);
        List<String> texts = new ArrayList<>();
        for (long i = 0, at = 0; i < v.count(); i++) {
            long size = v.bytes().get(LONG, at);
            texts.add(GgufHeader.string(v.bytes().asSlice(at + 8, size)));
            at += 8 + size;
        }
        return texts;
    }

    public float[] numbers(String key) {
        return list(key, GgufValue.F32).bytes().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
    }

    public int[] wholes(String key) {
        return list(key, GgufValue.I32).bytes().toArray(INT);
    }

    private Value single(String key) {
        Value v = value(key);
        if (v.array()) throw wrong(key, "a single value");
        return v;
    }

    private Value list(String key, int type) {
        Value v = value(key);
        if (!v.array() || v.type() != type) throw wrong(key, "a list of type " + type);
        if (v.bytes().byteSize() > Integer.MAX_VALUE - 8) throw wrong(key, "a list of less than 2 GB");
        return v;
    }

    private Value value(String key) {
        Value v = header.values.get(key);
        if (v == null) throw Fail.data("%s: has no metadata %s; the file is incomplete or of an unknown kind", file, key);
        return v;
    }

    private Fail wrong(String key, String expected) {
        return Fail.data("%s: metadata %s is not %s; the file is damaged or of an unknown kind", file, key, expected);
    }

    @Override
    public void close() {
        arena.close();
    }
}
