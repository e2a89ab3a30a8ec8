package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Damaged model directories and GGUF files: reading them whole works or fails with a sentence, and allocates within bounds. */
class ReaderFuzzTest {
    private static final long MOST = 64 << 20; // the models here are below 1 MB
    private static final String[] SPICE = {"-1", "0", "1", "3", "5", "8", "16", "64", "128", "2147483647", "9223372036854775807", "null", "true", "\"gptq\"", "\"x\"", "{}", "[]", "1e30"};

    @TempDir
    Path dir;

    /** Opens and reads everything; true if that worked. */
    private boolean reads(Path path) {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        long before = threads.getCurrentThreadAllocatedBytes();
        try (Frozen in = Exports.open(path)) {
            for (var tensor : in.shapes().entrySet()) {
                long count = 1;
                for (long d : tensor.getValue()) count = Math.multiplyExact(count, d);
                try (Arena arena = Arena.ofConfined()) {
                    in.read(tensor.getKey(), arena.allocate(4 * count, 8));
                }
            }
            for (String linear : in.quantized()) in.lattice(linear);
            if (in instanceof GgufIn file) GgufDir.of(file).close();
            return true;
        } catch (Fail f) {
            assertTrue(f.code() == Fail.DATA, f.code() + " " + f.getMessage());
            assertTrue(!f.getMessage().contains("\n") && f.getMessage().length() < 4000, f.getMessage());
            return false;
        } finally {
            long used = threads.getCurrentThreadAllocatedBytes() - before;
            assertTrue(used < MOST, "allocated " + used);
        }
    }

    private Tiny tiny(CpuBackend backend) {
        return Tiny.of(dir.resolve("source"), backend, "llama", 64, 64, "").quantize(Tiny.symmetric(4, 32));
    }

    private static byte[] mutated(byte[] seed, Random random) {
        byte[] b = seed.clone();
        int within = random.nextInt(4) == 0 ? b.length : Math.min(b.length, 12_000); // mostly headers, where more can break
        for (int k = 1 + random.nextInt(3); k > 0; k--) b[random.nextInt(within)] ^= (byte) (1 << random.nextInt(8));
        return b;
    }

    /** Names, shapes and places of a safetensors file replaced by others, its header still JSON of the length it says. */
    private static byte[] absurd(byte[] seed, Random random) {
        ByteBuffer in = ByteBuffer.wrap(seed).order(ByteOrder.LITTLE_ENDIAN);
        int length = (int) in.getLong(0);
        byte[] header = mutated(new String(seed, 8, length, StandardCharsets.UTF_8), random).getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(seed.length - length + header.length).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).put(header)
                .put(seed, 8 + length, seed.length - 8 - length).array();
    }

    /** One number, word or bracket of a JSON text replaced. */
    private static String mutated(String json, Random random) {
        String[] parts = json.split("(?<=[:,\\[{])|(?=[,\\]}])");
        for (int k = 1 + random.nextInt(2); k > 0; k--) parts[random.nextInt(parts.length)] = " " + SPICE[random.nextInt(SPICE.length)];
        return String.join("", parts);
    }

    private void fuzz(Path path, Path file, int rounds) throws IOException {
        byte[] seed = Files.readAllBytes(file);
        boolean text = file.toString().endsWith(".json"), tensors = file.toString().endsWith(".safetensors");
        Random random = new Random(file.getFileName().toString().hashCode() + path.getFileName().toString().hashCode());
        assertTrue(reads(path), path.toString());
        int accepted = 0;
        for (int i = 0; i < rounds; i++) {
            if (text) Files.write(file, mutated(new String(seed, StandardCharsets.UTF_8), random).getBytes(StandardCharsets.UTF_8));
            else Files.write(file, tensors && i % 2 == 0 ? absurd(seed, random) : mutated(seed, random));
            if (reads(path)) accepted++;
        }
        Files.write(file, seed);
        assertTrue(accepted < rounds, path + ": nothing was refused");
        for (int n : new int[] {0, 1, seed.length / 3, seed.length - 1}) {
            Files.write(file, java.util.Arrays.copyOf(seed, n));
            assertTrue(!reads(path) || text, path + " cut to " + n);
        }
        Files.write(file, seed);
    }

    @Test
    void packedDirectories() throws IOException {
        try (CpuBackend backend = new CpuBackend(1)) {
            Tiny tiny = tiny(backend);
            for (String target : new String[] {"gptq", "gptq-v2", "awq", "compressed-tensors", "compressed-tensors:bf16", "hf"}) {
                Path path = dir.resolve(target.replace(':', '-'));
                Exports.of(target, Exports.Options.DEFAULT).write(path, tiny.frozen());
                fuzz(path, path.resolve("config.json"), 300);
                fuzz(path, path.resolve("model.safetensors"), 160);
            }
        }
    }

    /** Zero points stored, groups in an order of their own, tensors in many files. */
    @Test
    void ordersAndShards() throws IOException {
        try (CpuBackend backend = new CpuBackend(1)) {
            Tiny tiny = Tiny.of(dir.resolve("source"), backend, "llama", 64, 64, "").quantize(Tiny.asymmetric(4, 32));
            for (String target : new String[] {"gptq-v2", "compressed-tensors"}) {
                Path path = dir.resolve(target);
                Exports.of(target, Exports.Options.DEFAULT).write(path, tiny.frozen());
                ordered(path.resolve("model.safetensors"));
                try (Frozen in = Exports.open(path)) {
                    assertTrue(in.quantized().isEmpty() && in.remark().contains("desc_act"), in.remark());
                }
                fuzz(path, path.resolve("model.safetensors"), 160);
                Exports.of(target, Exports.Options.DEFAULT.shards(20_000)).write(path, tiny.frozen());
                fuzz(path, path.resolve("model.safetensors.index.json"), 200);
                try (Stream<Path> files = Files.list(path)) {
                    fuzz(path, files.filter(f -> f.toString().endsWith(".safetensors")).sorted().findFirst().orElseThrow(), 160);
                }
            }
        }
    }

    /** Gives every linear a g_idx that deals its inputs out to the groups in turn. */
    private void ordered(Path file) throws IOException {
        Path other = dir.resolve("ordered.safetensors");
        try (Safetensors in = Safetensors.open(file)) {
            Map<String, int[]> orders = new LinkedHashMap<>();
            List<SafetensorsWriter.Slot> slots = new ArrayList<>();
            for (String name : in.names()) if (!name.endsWith(".g_idx")) slots.add(new SafetensorsWriter.Slot(name, in.entry(name).dtype(), in.entry(name).shape()));
            for (String name : in.names()) {
                boolean gptq = name.endsWith(".qweight");
                if (!gptq && !name.endsWith(".weight_packed")) continue;
                orders.put(name.substring(0, name.lastIndexOf('.')) + (gptq ? ".g_idx" : ".weight_g_idx"), IntStream.range(0, 64).map(i -> i % 2).toArray());
            }
            orders.forEach((name, order) -> slots.add(new SafetensorsWriter.Slot(name, StoredType.I32, order.length)));
            try (SafetensorsWriter out = SafetensorsWriter.open(other, slots, Map.of())) {
                for (SafetensorsWriter.Slot s : slots) out.write(s.name(), orders.containsKey(s.name()) ? MemorySegment.ofArray(orders.get(s.name())) : in.bytes(s.name()));
                out.finish();
            }
        }
        Files.move(other, file, StandardCopyOption.REPLACE_EXISTING);
    }

    @Test
    void runDirectories() throws IOException {
        try (CpuBackend backend = new CpuBackend(1)) {
            Path path = tiny(backend).run(dir.resolve("run")).resolve("model");
            fuzz(path, path.resolve("config.json"), 400);
            fuzz(path, path.resolve("packed.safetensors"), 200);
        }
    }

    /** Every block type, with the tokenizer that each file carries. */
    @ParameterizedTest
    @ValueSource(strings = {"f16", "q4_1", "q8_0", "q2_0", "q2_k", "tq1_0", "tq2_0"})
    void ggufBlocks(String type) throws IOException {
        try (CpuBackend backend = new CpuBackend(1)) {
            Tiny tiny = Tiny.of(dir.resolve("source"), backend, "llama", 256, 256, "");
            if (type.startsWith("t")) tiny.quantize(Tiny.ternary(256));
            else if (type.startsWith("q")) tiny.trainedFor("gguf:" + type);
            Path path = dir.resolve("model.gguf");
            Exports.of("gguf:" + type, Exports.Options.DEFAULT).write(path, tiny.frozen());
            fuzz(path, path, 100);
        }
    }

    @Test
    void ggufFiles() throws IOException {
        try (CpuBackend backend = new CpuBackend(1)) {
            Path path = dir.resolve("model.gguf");
            Exports.of("gguf:q4_0", Exports.Options.DEFAULT).write(path, tiny(backend).frozen());
            byte[] seed = Files.readAllBytes(path);
            fuzz(path, path, 400);
            // numbers of the metadata, one after the other, made extreme
            Random random = new Random(8);
            for (int at = 24; at < 1400; at += 2) {
                byte[] b = seed.clone();
                for (int k = 0; k < 4; k++) b[at + k] = (byte) (random.nextBoolean() ? 0x7f : random.nextInt());
                Files.write(path, b);
                reads(path);
            }
        }
    }
}
