package dev.qat.data;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
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
 * Writes a safetensors file as a stream: the list of tensors first, then their values one after the other.
 *
 * <p>Memory: the caller's one tensor plus a small buffer. The file has its name only after {@link #finish} (see
 * {@link AtomicFile}); closing earlier leaves nothing behind.
 */
public final class SafetensorsWriter implements AutoCloseable {
    /** A tensor to come.   shape: row-major, empty for a scalar. */
    public record Slot(String name, StoredType dtype, long... shape) {
        public Slot {
            Fail.unless(!name.isEmpty() && !name.equals("__metadata__"), "a tensor cannot be named '%s'", name);
            for (long d : shape) Fail.unless(d >= 0, "tensor %s has the negative dimension %d", name, d);
        }

        public long count() {
            long n = 1;
            for (long d : shape) n = Math.multiplyExact(n, d);
            return n;
        }

        public long bytes() {
            return Math.multiplyExact(count(), (long) dtype.bytes());
        }
    }

    private static final int CHUNK = 1 << 20; // elements converted at a time

    private final AtomicFile out;
    private final Path target;
    private final List<Slot> slots;
    private int next;

    private SafetensorsWriter(Path target, List<Slot> slots, AtomicFile out) {
        this.target = target;
        this.slots = List.copyOf(slots);
        this.out = out;
    }

    /** Begins a file; {@code notes} go into {@code __metadata__} beside the {@code format: pt} that readers require. */
    public static SafetensorsWriter open(Path target, List<Slot> slots, Map<String, String> notes) {
        ByteBuffer header = header(slots, notes);
        AtomicFile out = AtomicFile.open(target);
        try {
            out.write(header);
            return new SafetensorsWriter(target, slots, out);
        } catch (RuntimeException e) {
            out.close();
            throw e;
        }
    }

    /** Writes the next tensor's bytes as they are. */
    public void write(String name, MemorySegment bytes) {
        Slot slot = expect(name);
        Fail.unless(bytes.byteSize() == slot.bytes(), "%s: tensor %s is given %d bytes, announced %d",
                target, name, bytes.byteSize(), slot.bytes());
        out.write(bytes);
        next++;
    }

    /** Writes the next tensor from fp32, rounded to its dtype (F32, F16 or BF16).   floats (count). */
    public void writeFloats(String name, MemorySegment floats) {
        Slot slot = expect(name);
        long n = slot.count();
        Fail.unless(floats.byteSize() == 4 * n, "%s: tensor %s is given %d bytes of fp32, announced %d elements",
                target, name, floats.byteSize(), n);
        int size = slot.dtype.bytes();
        byte[] buffer = new byte[(int) Math.min(n, CHUNK) * size];
        for (long at = 0; at < n; at += CHUNK) {
            long count = Math.min(CHUNK, n - at);
            MemorySegment raw = MemorySegment.ofArray(buffer).asSlice(0, count * size);
            slot.dtype.narrow(raw, floats.asSlice(4 * at, 4 * count));
            out.write(raw);
        }
        next++;
    }

    /** Ends the file and gives it its name; every announced tensor must have been written. */
    public void finish() {
        Fail.unless(next == slots.size(), "%s: %d of %d announced tensors were written", target, next, slots.size());
        out.commit();
    }

    @Override
    public void close() {
        out.close();
    }

    private Slot expect(String name) {
        Fail.unless(next < slots.size() && slots.get(next).name.equals(name), "%s: tensor %s is written where %s was announced",
                target, name, next < slots.size() ? slots.get(next).name : "the end");
        return slots.get(next);
    }

    /** u64 length, then the JSON, padded with spaces so that the data starts at a multiple of 8. */
    private static ByteBuffer header(List<Slot> slots, Map<String, String> notes) {
        ObjectNode root = Json.MAPPER.createObjectNode();
        ObjectNode metadata = root.putObject("__metadata__").put("format", "pt");
        notes.forEach(metadata::put);
        Set<String> seen = new HashSet<>();
        long at = 0;
        for (Slot s : slots) {
            Fail.unless(seen.add(s.name), "tensor %s is announced twice", s.name);
            ObjectNode entry = root.putObject(s.name).put("dtype", s.dtype.name());
            var shape = entry.putArray("shape");
            for (long d : s.shape) shape.add(d);
            entry.putArray("data_offsets").add(at).add(at += s.bytes());
        }
        byte[] json = root.toString().getBytes(StandardCharsets.UTF_8);
        int padded = (json.length + 7) / 8 * 8;
        ByteBuffer header = ByteBuffer.allocate(8 + padded).order(ByteOrder.LITTLE_ENDIAN).putLong(padded).put(json);
        while (header.hasRemaining()) header.put((byte) ' ');
        return header.flip();
    }
}
