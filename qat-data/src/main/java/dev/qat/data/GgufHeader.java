package dev.qat.data;

import dev.qat.data.Gguf.Entry;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The head of a GGUF v3 file, checked before a byte of data is believed.
 *
 * <pre>
 * "GGUF"; u32 3; u64 tensors; u64 keys
 * keys    × { string key; u32 type; value }                             string = u64 bytes, UTF-8
 * tensors × { string name; u32 n; u64 ne[n]; u32 ggml type; u64 offset }
 * zeros to a multiple of general.alignment (32); the tensors, each padded to the same multiple, in order, without holes
 * </pre>
 *
 * Nothing is copied but keys, names and single texts; lists stay in the file until they are asked for. A count is believed
 * only as far as the file is long enough for it. Source: ggml's {@code docs/gguf.md} and the rules of {@code gguf.cpp}.
 */
final class GgufHeader {
    /** A value in the file; for an array {@code type} is its elements' and {@code count} their number. */
    record Value(boolean array, int type, long count, MemorySegment bytes) {}

    private static final int MAX_NAME = 63, MAX_KEY = 65535, MAX_DIMS = 4, SHORTEST_KEY = 8 + 1 + 4 + 1, SHORTEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8;
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Path file;
    private final MemorySegment bytes;
    private long at;
    final Map<String, Value> values = new LinkedHashMap<>();
    final Map<String, Entry> entries = new LinkedHashMap<>();
    /** Where the data begins in the file. */
    final long dataStart;

    GgufHeader(Path file, MemorySegment bytes) {
        this.file = file;
        this.bytes = bytes;
        if (take(4, "magic") != 0 || bytes.get(INT, 0) != 0x46554747) throw corrupt("it does not begin with GGUF");
        int version = readInt("version");
        if (version != 3) {
            throw Fail.data("%s: GGUF version %s, expected 3; convert it with a current llama.cpp", file, Integer.toUnsignedString(version));
        }
        long tensors = count(SHORTEST_TENSOR, "tensors"), keys = count(SHORTEST_KEY, "keys");
        for (long i = 0; i < keys; i++) readKey();
        long align = alignment();
        long offset = 0;
        for (long i = 0; i < tensors; i++) offset = readTensor(offset, align);
        dataStart = (at + align - 1) / align * align;
        long have = Math.max(0, bytes.byteSize() - dataStart);
        for (Entry e : entries.values()) {
            if (e.end() > have) throw corrupt("tensor %s ends at data byte %d but the file holds %d", shown(e.name()), e.end(), have);
        }
    }

    private long count(int shortest, String what) {
        long n = readLong("the number of " + what), most = (bytes.byteSize() - at) / shortest;
        if (n < 0 || n > most) throw corrupt("it claims %s %s, but has room for %d at most", Long.toUnsignedString(n), what, most);
        return n;
    }

    private void readKey() {
        String key = text(MAX_KEY, "a key");
        int type = readInt("the type of " + shown(key));
        Value v = type == GgufValue.ARRAY ? array(key) : new Value(false, type, 1, element(key, type));
        if (values.putIfAbsent(key, v) != null) throw corrupt("the key %s is there twice", shown(key));
    }

    private Value array(String key) {
        int type = readInt("the element type of " + shown(key));
        long n = readLong("the length of " + shown(key)), start = at;
        int width = GgufValue.width(type);
        if (width == 0 && type != GgufValue.STRING) throw corrupt("%s is a list of elements of type %s", shown(key), Integer.toUnsignedString(type));
        long most = (bytes.byteSize() - at) / Math.max(width, 8 * (width == 0 ? 1 : 0));
        if (n < 0 || n > most) throw corrupt("%s claims %s elements, but the file has room for %d at most", shown(key), Long.toUnsignedString(n), most);
        if (width > 0) take(n * width, key);
        else for (long i = 0; i < n; i++) take(length(Integer.MAX_VALUE, "a text of " + shown(key)), key);
        return new Value(true, type, n, bytes.asSlice(start, at - start));
    }

    private MemorySegment element(String key, int type) {
        int width = GgufValue.width(type);
        if (width == 0 && type != GgufValue.STRING) throw corrupt("%s has the unknown type %s", shown(key), Integer.toUnsignedString(type));
        long size = width > 0 ? width : length(Integer.MAX_VALUE, shown(key));
        return bytes.asSlice(take(size, shown(key)), size);
    }

    private long alignment() {
        Value v = values.get("general.alignment");
        if (v == null) return 32;
        if (v.array || v.type != GgufValue.U32) throw corrupt("general.alignment is no u32");
        int align = v.bytes.get(INT, 0);
        if (Integer.bitCount(align) != 1 || align < 0) throw corrupt("general.alignment is %s, expected a power of two", Integer.toUnsignedString(align));
        return align;
    }

    /** Reads a tensor that must begin at {@code offset}; returns where the next one must. */
    private long readTensor(long offset, long align) {
        String name = text(MAX_NAME, "a tensor's name");
        int n = readInt("the rank of " + shown(name));
        if (n < 1 || n > MAX_DIMS) throw corrupt("tensor %s has %s dimensions, expected 1 to 4", shown(name), Integer.toUnsignedString(n));
        long[] ne = new long[n];
        for (int i = 0; i < n; i++) ne[i] = readLong("the shape of " + shown(name));
        int id = readInt("the type of " + shown(name));
        GgmlType type = GgmlType.of(id).orElseThrow(() -> Fail.data("%s: tensor %s has ggml type %s, which qat does not read; it reads %s",
                file, shown(name), Integer.toUnsignedString(id), Arrays.toString(GgmlType.values())));
        if (readLong("the place of " + shown(name)) != offset) throw corrupt("tensor %s does not begin at data byte %d", shown(name), offset);
        Entry entry = new Entry(name, type, ne, offset, offset + size(name, type, ne));
        if (entries.putIfAbsent(name, entry) != null) throw corrupt("tensor %s is there twice", shown(name));
        long padded = (entry.end() + align - 1) / align * align;
        if (padded < entry.end()) throw corrupt("tensor %s is too large", shown(name));
        return padded;
    }

    private long size(String name, GgmlType type, long[] ne) {
        if (ne[0] % type.elements != 0) throw corrupt("the rows of tensor %s have %s weights, no multiple of %s's %d", shown(name), Long.toUnsignedString(ne[0]), type, type.elements);
        long size = type.bytes, room = bytes.byteSize();
        for (int i = 0; i < ne.length; i++) {
            long d = i == 0 ? ne[0] / type.elements : ne[i];
            if (d < 0 || d > 0 && size > room / d) throw corrupt("tensor %s of shape %s is larger than the file", shown(name), Arrays.toString(ne));
            size *= d;
        }
        return size;
    }

    private String text(int most, String what) {
        long size = length(most, what);
        if (size == 0) throw corrupt("%s is empty", what);
        return string(bytes.asSlice(take(size, what), size));
    }

    static String string(MemorySegment utf8) {
        return new String(utf8.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
    }

    private long length(long most, String what) {
        long size = readLong("the length of " + what);
        if (size < 0 || size > most) throw corrupt("%s is %s bytes long, expected at most %d", what, Long.toUnsignedString(size), most);
        return size;
    }

    private long readLong(String what) {
        return bytes.get(LONG, take(8, what));
    }

    private int readInt(String what) {
        return bytes.get(INT, take(4, what));
    }

    /** Steps over so many bytes, which must be there, and returns where they begin. */
    private long take(long size, String what) {
        if (size > bytes.byteSize() - at) throw corrupt("it ends at byte %d, inside %s", bytes.byteSize(), shown(what));
        at += size;
        return at - size;
    }

    private Fail corrupt(String format, Object... args) {
        return Fail.data("%s: %s; the file is truncated or damaged: copy, download or export it again", file, format.formatted(args));
    }

    /** A name from the file in one short line. */
    private static String shown(String name) {
        String line = name.replaceAll("\\p{Cntrl}", "?");
        return line.length() <= 120 ? line : line.substring(0, 120) + "...";
    }
}
