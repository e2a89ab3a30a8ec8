package dev.qat.watch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.method.BlockAp;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import dev.qat.train.Part;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Stop;
import dev.qat.train.TinyModels;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Event files read back by a reader of its own, and the Prometheus endpoint asked over HTTP. */
final class ObserveTest {
    @TempDir
    Path temp;

    /** The published check value of CRC-32C, and the masked one of an eight-byte length of 24. */
    @Test
    void masksChecksumsAsTheFormatSays() {
        byte[] length = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(24).array();
        assertEquals(0x224b7fa3, EventFile.masked(length));
        assertEquals(Integer.rotateRight(0xe3069283, 15) + 0xa282ead8, EventFile.masked("123456789".getBytes(StandardCharsets.US_ASCII)));
    }

    /** Payloads of the records of the one event file in a folder; every checksum is checked. */
    private static List<byte[]> records(Path folder) throws Exception {
        Path file;
        try (Stream<Path> all = Files.list(folder)) {
            file = all.findFirst().orElseThrow();
        }
        assertTrue(file.getFileName().toString().matches("events\\.out\\.tfevents\\.\\d{10}\\.qat"), file.toString());
        ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        List<byte[]> all = new ArrayList<>();
        while (in.hasRemaining()) {
            byte[] length = new byte[8];
            in.get(length);
            assertEquals(EventFile.masked(length), in.getInt());
            byte[] payload = new byte[(int) ByteBuffer.wrap(length).order(ByteOrder.LITTLE_ENDIAN).getLong()];
            in.get(payload);
            assertEquals(EventFile.masked(payload), in.getInt());
            all.add(payload);
        }
        return all;
    }

    /** The fields of a protocol buffer by number; varints as Long, the rest as bytes. */
    private static Map<Integer, Object> fields(byte[] message) {
        ByteBuffer in = ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN);
        Map<Integer, Object> all = new LinkedHashMap<>();
        while (in.hasRemaining()) {
            long key = varint(in);
            byte[] bytes = switch ((int) (key & 7)) {
                case 1 -> new byte[8];
                case 2 -> new byte[(int) varint(in)];
                case 5 -> new byte[4];
                default -> null;
            };
            if (bytes == null) {
                all.put((int) (key >> 3), varint(in));
            } else {
                in.get(bytes);
                all.put((int) (key >> 3), bytes);
            }
        }
        return all;
    }

    private static long varint(ByteBuffer in) {
        long v = 0;
        for (int shift = 0; ; shift += 7) {
            byte b = in.get();
            v |= (b & 0x7FL) << shift;
            if (b >= 0) return v;
        }
    }

    private static byte[] bytes(Object field) {
        return (byte[]) field;
    }

    private static double number(Object field) {
        return ByteBuffer.wrap(bytes(field)).order(ByteOrder.LITTLE_ENDIAN).getDouble();
    }

    @Test
    void scalarsAndHistogramsComeBack() throws Exception {
        try (EventFile f = new EventFile(temp)) {
            f.scalar("train/loss", 300, 2.5);
            f.histogram("codes/x", 7, new long[] {0, 4, 5, 1}, 1);
        }
        List<byte[]> records = records(temp);
        assertEquals("brain.Event:2", new String(bytes(fields(records.get(0)).get(3)), StandardCharsets.UTF_8));
        Map<Integer, Object> event = fields(records.get(1)), value = fields(bytes(fields(bytes(event.get(5))).get(1)));
        assertEquals(300L, event.get(2));
        assertEquals("train/loss", new String(bytes(value.get(1)), StandardCharsets.UTF_8));
        assertEquals(2.5f, ByteBuffer.wrap(bytes(value.get(2))).order(ByteOrder.LITTLE_ENDIAN).getFloat());
        Map<Integer, Object> histo = fields(bytes(fields(bytes(fields(bytes(fields(records.get(2)).get(5))).get(1))).get(5)));
        double[] head = {number(histo.get(1)), number(histo.get(2)), number(histo.get(3)), number(histo.get(4)), number(histo.get(5))};
        assertArrayEquals(new double[] {1, 3, 10, 17, 33}, head, "min, max, num, sum, sum of squares");
        ByteBuffer buckets = ByteBuffer.wrap(bytes(histo.get(7))).order(ByteOrder.LITTLE_ENDIAN);
        assertEquals(5, buckets.getDouble(16));
        assertEquals(32, bytes(histo.get(6)).length);
    }

    /** Tag and step of everything in a run's event files, with the value of a scalar. */
    private static Map<String, Object> board(Path run) throws Exception {
        Map<String, Object> all = new TreeMap<>();
        List<Path> folders;
        try (Stream<Path> stages = Files.list(run.resolve("tensorboard"))) {
            folders = stages.sorted().toList();
        }
        for (Path folder : folders) {
            for (byte[] record : records(folder)) {
                Map<Integer, Object> event = fields(record);
                if (!event.containsKey(5)) continue;
                Map<Integer, Object> value = fields(bytes(fields(bytes(event.get(5))).get(1)));
                String at = folder.getFileName() + " " + new String(bytes(value.get(1)), StandardCharsets.UTF_8) + " " + event.getOrDefault(2, 0L);
                float scalar = value.containsKey(2) ? ByteBuffer.wrap(bytes(value.get(2))).order(ByteOrder.LITTLE_ENDIAN).getFloat() : 0;
                assertNull(all.put(at, scalar), "twice: " + at);
            }
        }
        return all;
    }

    /** @param stopAt and {@code dieAt} a step of a block, counted over all blocks; 0 for never */
    private void train(String name, int stopAt, int dieAt) {
        Stop stop = new Stop();
        try (Backend b = new CpuBackend(1)) {
            if (!Files.exists(temp.resolve("model"))) TinyModels.write(temp.resolve("model"), b, 7);
            Recipe r = new Recipe(name, new Recipe.Source(temp.resolve("model"), Recipe.Init.LOAD), "cpu", Precision.FP32, false, 1, 3, temp.resolve("runs"),
                    new Recipe.Data(List.of(), List.of(), 0, 16, 0, 16, 1, 0, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS, new Recipe.Checkpoint(0, 3, 2, Recipe.Resume.AUTO),
                    Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", List.of(new Rtn(2, 32), new BlockAp(2, 32, 4, 4, 3e-3, 3e-3, 0.05, Part.ALL, true)));
            Runner.run(r, "", Map.of("qat", "test"), b, new Witness((_, done) -> {
                if (done == stopAt) stop.ask("the test");
                if (done == dieAt) throw new StackOverflowError("the process dies");
            }), stop);
        }
    }

    /** Stopped, and dead between two checkpoints: no step is in an event file twice, and none is missing. */
    @Test
    void aResumedRunShowsEveryStepOnce() throws Exception {
        train("whole", 0, 0);
        assertThrows(Fail.class, () -> train("resumed", 5, 0));
        assertThrows(StackOverflowError.class, () -> train("resumed", 0, 17));
        assertThrows(Fail.class, () -> train("resumed", 19, 0));
        train("resumed", 0, 0);
        Map<String, Object> whole = board(temp.resolve("runs/whole"));
        assertEquals(whole, board(temp.resolve("runs/resumed")));
        assertTrue(whole.containsKey("block-ap block/1/recon_loss 15") && whole.containsKey("block-ap eval/ppl 0"), whole.keySet().toString());
    }

    @Test
    void codesAreCountedAcrossWords() {
        try (Backend be = new CpuBackend(1)) {
            // 3-bit codes 0..7,0,1,.. of a row of 24: 72 bits in three words
            int[] words = new int[6];
            long[] expected = new long[8];
            for (int r = 0; r < 2; r++) {
                for (int i = 0; i < 24; i++) {
                    int code = (i + r) % 8;
                    expected[code]++;
                    for (int b = 0; b < 3; b++) words[3 * r + (3 * i + b) / 32] |= (code >> b & 1) << (3 * i + b) % 32;
                }
            }
            Tensor w = be.memory().tensor("codes", DType.I32, 2, 3), s = be.memory().tensor("step", 2, 1), z = be.memory().tensor("zero", 2, 1);
            be.memory().set(w, words);
            be.memory().set(z, 7f, 3f);
            be.memory().set(s, 0.5f, 1f);
            CodeCount c = CodeCount.of(new PackedWeight("x", 3, 24, 24, w, s, z, null), be.memory());
            assertArrayEquals(expected, c.codes());
            assertEquals(List.of(6L, 48L), List.of(c.dead(), c.all())); // each code comes three times in a row
            long[] groups = new long[CodeCount.BINS + 1];
            groups[3 * CodeCount.BINS / 24] = 2;
            assertArrayEquals(groups, c.groups());
            // the same as minima: row 0 holds 0 at its code 3, row 1 between two codes
            be.memory().set(z, -1.5f, -0.25f);
            assertEquals(3, CodeCount.of(new PackedWeight("x", 3, 24, 24, w, s, z, null, true), be.memory()).dead());
        }
    }

    @Test
    void prometheusIsAnswered() throws Exception {
        Pulse pulse = Pulse.begin().at("block-ap", 3, 12, 100, 0.25, 1e-5, 0.4, 60);
        try (Prometheus p = new Prometheus(0, "a \"run\"", () -> pulse); HttpClient client = HttpClient.newHttpClient()) {
            HttpResponse<String> r = client.send(HttpRequest.newBuilder(URI.create("http://localhost:" + p.port() + "/metrics")).build(), HttpResponse.BodyHandlers.ofString());
            assertEquals(200, r.statusCode());
            assertTrue(r.headers().firstValue("Content-Type").orElse("").startsWith("text/plain; version=0.0.4"));
            assertTrue(r.body().contains("qat_loss{run=\"a \\\"run\\\"\",stage=\"block-ap\",block=\"3\"} 0.25\n"), r.body());
            assertTrue(r.body().contains("# TYPE qat_step gauge\nqat_step{"), r.body());
            for (String line : r.body().lines().toList()) assertTrue(line.matches("# (HELP|TYPE) qat_\\w+ .+|qat_\\w+\\{.*} (NaN|[-+.0-9E]+)"), line);
        }
    }
}
