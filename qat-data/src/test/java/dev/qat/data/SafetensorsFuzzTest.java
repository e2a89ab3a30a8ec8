package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Whatever the bytes, opening either works or fails with a sentence, within memory proportional to the header. */
class SafetensorsFuzzTest {
    private static final String SEED = "{\"__metadata__\":{\"format\":\"pt\"},\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
            + "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]},\"c\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[16,24]}}";
    private static final String[] SPICE = {"-1", "0", "1", "9223372036854775807", "9223372036854775808", "18446744073709551615", "1e999",
        "NaN", "null", "true", "{}", "[]", "\"\"", "[[[[", "}}}}", "\\u0000", "\"\\ud800\"", ",", ":", "\u00ff", "4611686018427387904"};
    private static final Path NAME = Path.of("fuzzed.safetensors");

    @TempDir
    Path dir;

    private static byte[] whole(byte[] header, long length, int data) {
        return ByteBuffer.allocate(8 + header.length + data).order(ByteOrder.LITTLE_ENDIAN).putLong(length).put(header).array();
    }

    private static byte[] mutated(Random random) {
        StringBuilder s = new StringBuilder(SEED);
        for (int k = 1 + random.nextInt(4); k > 0 && s.length() > 4; k--) {
            int at = random.nextInt(s.length()), to = Math.min(s.length(), at + random.nextInt(12));
            switch (random.nextInt(5)) {
                case 0 -> s.setCharAt(at, (char) random.nextInt(256));
                case 1 -> s.delete(at, to);
                case 2 -> s.insert(at, SPICE[random.nextInt(SPICE.length)]);
                case 3 -> s.replace(at, to, SPICE[random.nextInt(SPICE.length)]);
                default -> s.insert(at, s.substring(at, to));
            }
        }
        return s.toString().getBytes(random.nextBoolean() ? StandardCharsets.UTF_8 : StandardCharsets.ISO_8859_1);
    }

    /** True if accepted; then every tensor must lie inside the data. */
    private static boolean accepts(byte[] file) {
        try {
            SafetensorsHeader header = new SafetensorsHeader(NAME, MemorySegment.ofArray(file));
            for (var e : header.entries) {
                assertTrue(0 <= e.begin() && e.begin() <= e.end() && e.end() <= file.length - header.dataStart, e.toString());
            }
            return true;
        } catch (Fail f) {
            assertEquals(Fail.DATA, f.code());
            assertTrue(f.getMessage().contains(NAME.toString()) && f.getMessage().length() < 2000, f.getMessage());
            return false;
        }
    }

    @Test
    void mutatedHeadersFailWithASentence() {
        Random random = new Random(20250607);
        int accepted = 0;
        for (int i = 0; i < 40_000; i++) {
            byte[] header = mutated(random);
            long length = random.nextInt(20) == 0 ? random.nextLong() >> random.nextInt(64) : header.length;
            if (accepts(whole(header, length, 24 + (random.nextInt(8) == 0 ? random.nextInt(9) - 4 : 0)))) accepted++;
        }
        assertTrue(accepts(whole(SEED.getBytes(StandardCharsets.UTF_8), SEED.length(), 24)));
        // Both outcomes must occur, or the fuzzing tests nothing (changed names and texts stay valid).
        assertTrue(accepted > 200 && accepted < 20_000, "accepted " + accepted);
    }

    @Test
    void randomFilesFailWithASentence() throws Exception {
        Random random = new Random(7);
        Path file = dir.resolve("random.safetensors");
        for (int i = 0; i < 300; i++) {
            byte[] bytes = new byte[random.nextInt(200)];
            random.nextBytes(bytes);
            if (bytes.length > 16) { // a plausible length, so that the JSON is reached
                ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(random.nextInt(bytes.length));
                bytes[8] = '{';
            }
            Files.write(file, bytes);
            Failing.data(() -> Safetensors.open(file), file);
        }
    }

    @Test
    void hostileHeadersCostMemoryInProportionToTheirLength() {
        int n = 2_000_000;
        String[] hostile = {
            "{\"a\":" + "[".repeat(n), "{" + "{".repeat(n), "{\"" + "a".repeat(n) + "\":{}}", "{\"a\":{\"shape\":[" + "9".repeat(n) + "]}}",
            "{\"a\":{\"shape\":[" + "1,".repeat(n / 2) + "1]}}", "{\"a\":{\"dtype\":\"" + "F".repeat(n) + "\"}}",
            "{\"__metadata__\":{\"a\":\"" + "\\u0041".repeat(n / 6) + "\"}}", "{\"__metadata__\":{" + "\"a\":\"b\",".repeat(n / 8) + "}}"};
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        for (String json : hostile) {
            byte[] file = whole(json.getBytes(StandardCharsets.UTF_8), json.length(), 0);
            long before = threads.getCurrentThreadAllocatedBytes();
            accepts(file);
            long used = threads.getCurrentThreadAllocatedBytes() - before;
            assertTrue(used < 20L * file.length, json.substring(0, 30) + " used " + used + " bytes for " + file.length);
        }
    }
}
