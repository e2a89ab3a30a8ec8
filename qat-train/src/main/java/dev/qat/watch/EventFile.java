package dev.qat.watch;

import dev.qat.tensor.Fail;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.CRC32C;

/**
 * A TensorBoard event file: records of u64 length, u32 masked CRC-32C of the length, payload, u32 masked CRC-32C of the payload,
 * all little-endian; a payload is the protocol buffer Event {wall_time = 1 double, step = 2 int64, file_version = 3 string,
 * summary = 5 {value = 1 {tag = 1 string, simple_value = 2 float, histo = 5 {min, max, num, sum, sum_squares = 1 to 5 double,
 * bucket_limit = 6, bucket = 7 packed doubles}}}}.
 */
final class EventFile implements AutoCloseable {
    private final Path file;
    private final OutputStream out;

    /** Begins {@code events.out.tfevents.SECONDS.qat} in a folder that exists. */
    EventFile(Path folder) {
        file = folder.resolve("events.out.tfevents.%010d.qat".formatted(System.currentTimeMillis() / 1000));
        try {
            out = new BufferedOutputStream(Files.newOutputStream(file), 1 << 16);
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s", file, e);
        }
        Message event = new Message().number(1, now()).text(3, "brain.Event:2");
        write(event.bytes());
    }

    private static double now() {
        return System.currentTimeMillis() / 1e3;
    }

    void scalar(String tag, long step, double value) {
        summary(step, new Message().text(1, tag).real(2, (float) value));
    }

    /** How often each of the values 0, unit, 2 unit, .. came. */
    void histogram(String tag, long step, long[] counts, double unit) {
        double n = 0, sum = 0, squares = 0, least = -1, most = 0;
        ByteBuffer limits = ByteBuffer.allocate(8 * counts.length).order(ByteOrder.LITTLE_ENDIAN), buckets = ByteBuffer.allocate(8 * counts.length).order(ByteOrder.LITTLE_ENDIAN);
        for (int v = 0; v < counts.length; v++) {
            n += counts[v];
            double value = v * unit;
            sum += value * counts[v];
            squares += value * value * counts[v];
            if (counts[v] > 0 && least < 0) least = value;
            if (counts[v] > 0) most = value;
            limits.putDouble((v + 0.5) * unit);
            buckets.putDouble(counts[v]);
        }
        Message histo = new Message().number(1, Math.max(0, least)).number(2, most).number(3, n).number(4, sum).number(5, squares).nested(6, limits.array()).nested(7, buckets.array());
        summary(step, new Message().text(1, tag).nested(5, histo.bytes()));
    }

    private void summary(long step, Message value) {
        write(new Message().number(1, now()).whole(2, step).nested(5, new Message().nested(1, value.bytes()).bytes()).bytes());
    }

    private void write(byte[] payload) {
        byte[] length = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(payload.length).array();
        try {
            out.write(length);
            out.write(crc(length));
            out.write(payload);
            out.write(crc(payload));
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s. Is the disk full, or the output directory gone?", file, e);
        }
    }

    private static byte[] crc(byte[] bytes) {
        return ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(masked(bytes)).array();
    }

    /** ((crc ≫ 15) | (crc ≪ 17)) + 0xa282ead8 */
    static int masked(byte[] bytes) {
        CRC32C crc = new CRC32C();
        crc.update(bytes);
        return Integer.rotateRight((int) crc.getValue(), 15) + 0xa282ead8;
    }

    void flush() {
        try {
            out.flush();
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s. Is the disk full, or the output directory gone?", file, e);
        }
    }

    @Override
    public void close() {
        try (out) {
            out.flush();
        } catch (IOException e) {
            throw Fail.io(e, "cannot write %s: %s", file, e);
        }
    }

    /** A protocol buffer under way; little-endian, fields in the order given. */
    private static final class Message {
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();

        Message whole(int field, long value) {
            varint(field << 3);
            varint(value);
            return this;
        }

        Message number(int field, double value) {
            varint(field << 3 | 1);
            out.writeBytes(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putDouble(value).array());
            return this;
        }

        Message real(int field, float value) {
            varint(field << 3 | 5);
            out.writeBytes(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(value).array());
            return this;
        }

        Message text(int field, String value) {
            return nested(field, value.getBytes(StandardCharsets.UTF_8));
        }

        Message nested(int field, byte[] value) {
            varint(field << 3 | 2);
            varint(value.length);
            out.writeBytes(value);
            return this;
        }

        private void varint(long v) {
            for (; (v & ~0x7FL) != 0; v >>>= 7) out.write((int) (v & 0x7F | 0x80));
            out.write((int) v);
        }

        byte[] bytes() {
            return out.toByteArray();
        }
    }
}
