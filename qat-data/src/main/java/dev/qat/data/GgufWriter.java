package dev.qat.data;

import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Writes a GGUF v3 file as a stream: metadata and the list of tensors first, then their blocks one after the other.
 *
 * <p>Memory: what the caller hands over at a time, and the head. The file has its name only after {@link #finish} (see
 * {@link AtomicFile}); closing earlier leaves nothing behind. Layout: {@link GgufHeader}.
 */
public final class GgufWriter implements AutoCloseable {
    /** A tensor to come.   ne: the row's length first, the number of rows second. */
    public record Slot(String name, GgmlType type, long... ne) {
        public Slot {
            int length = name.getBytes(StandardCharsets.UTF_8).length;
            Fail.unless(length >= 1 && length <= 63, "a GGUF tensor's name is 1 to 63 bytes long: '%s'", name);
            Fail.unless(ne.length >= 1 && ne.length <= 4 && ne[0] % type.elements == 0, "tensor %s cannot be stored as %s", name, type);
        }

        public long bytes() {
            long n = type.rowBytes(ne[0]);
            for (int i = 1; i < ne.length; i++) n = Math.multiplyExact(n, ne[i]);
            return n;
        }

        public long count() {
            return bytes() / type.bytes * type.elements;
        }
    }

    private static final int ALIGN = 32;

    private final Path target;
    private final List<Slot> slots;
    private final AtomicFile out;
    private int slot;
    private long written; // bytes of the slot being written

    private GgufWriter(Path target, List<Slot> slots, AtomicFile out) {
        this.target = target;
        this.slots = List.copyOf(slots);
        this.out = out;
    }

    /** Begins a file with its metadata, in order. */
    public static GgufWriter open(Path target, Map<String, GgufValue> metadata, List<Slot> slots) {
        byte[] head = head(metadata, slots);
        AtomicFile out = AtomicFile.open(target);
        try {
            out.write(ByteBuffer.wrap(head));
            return new GgufWriter(target, slots, out);
        } catch (RuntimeException e) {
            out.close();
            throw e;
        }
    }

    /** Writes the next part of the named tensor, which may come in several. */
    public void write(String name, MemorySegment bytes) {
        Fail.unless(slot < slots.size() && slots.get(slot).name.equals(name), "%s: tensor %s is written where %s was announced",
                target, name, slot < slots.size() ? slots.get(slot).name : "the end");
        written += bytes.byteSize();
        long whole = slots.get(slot).bytes();
        Fail.unless(written <= whole, "%s: tensor %s is given %d bytes, announced %d", target, name, written, whole);
        out.write(bytes);
        if (written < whole) return;
        out.write(ByteBuffer.allocate(padding(whole)));
        slot++;
        written = 0;
    }

    /** Ends the file and gives it its name; every announced tensor must have been written. */
    public void finish() {
        Fail.unless(slot == slots.size(), "%s: %d of %d announced tensors were written", target, slot, slots.size());
        out.commit();
    }

    @Override
    public void close() {
        out.close();
    }

    private static int padding(long size) {
        return (int) ((ALIGN - size % ALIGN) % ALIGN);
    }

    private static byte[] head(Map<String, GgufValue> metadata, List<Slot> slots) {
        Head h = new Head();
        h.bytes.writeBytes("GGUF".getBytes(StandardCharsets.US_ASCII));
        h.put(3).put((long) slots.size()).put((long) metadata.size());
        metadata.forEach((key, value) -> {
            Fail.unless(!key.isEmpty(), "a GGUF key is empty");
            h.put(key).put(value.type()).put(value.value());
        });
        Set<String> seen = new HashSet<>();
        long offset = 0;
        for (Slot s : slots) {
            Fail.unless(seen.add(s.name), "tensor %s is announced twice", s.name);
            h.put(s.name).put(s.ne.length);
            for (long d : s.ne) h.put(d);
            h.put(s.type.id).put(offset);
            offset += s.bytes() + padding(s.bytes());
        }
        h.bytes.writeBytes(new byte[padding(h.bytes.size())]);
        return h.bytes.toByteArray();
    }

    /** The head as it grows, little-endian. */
    private static final class Head {
        final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        private final ByteBuffer word = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);

        Head put(int v) {
            bytes.write(word.putInt(0, v).array(), 0, 4);
            return this;
        }

        Head put(long v) {
            bytes.write(word.putLong(0, v).array(), 0, 8);
            return this;
        }

        Head put(String text) {
            byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
            put((long) utf8.length);
            bytes.writeBytes(utf8);
            return this;
        }

        void put(Object value) {
            switch (value) {
                case Integer i -> put(i.intValue());
                case Float f -> put(Float.floatToRawIntBits(f));
                case Boolean b -> bytes.write(b ? 1 : 0);
                case String s -> put(s);
                case List<?> texts -> {
                    put(GgufValue.STRING).put((long) texts.size());
                    for (Object t : texts) put((String) t);
                }
                case float[] numbers -> {
                    put(GgufValue.F32).put((long) numbers.length);
                    for (float f : numbers) put(Float.floatToRawIntBits(f));
                }
                case int[] numbers -> {
                    put(GgufValue.I32).put((long) numbers.length);
                    for (int i : numbers) put(i);
                }
                default -> throw Fail.internal("a GGUF value cannot be a %s", value.getClass().getSimpleName());
            }
        }
    }
}
