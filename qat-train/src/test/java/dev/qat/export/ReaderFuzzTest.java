package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.qat.cpu.CpuBackend;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

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
        for (int k = 1 + random.nextInt(3); k > 0; k--) b[random.nextInt(Math.min(b.length, 12_000))] ^= (byte) (1 << random.nextInt(8));
        return b;
    }

    /** One number, word or bracket of a JSON text replaced. */
    private static String mutated(String json, Random random) {
        String[] parts = json.split("(?<=[:,\\[{])|(?=[,\\]}])");
        for (int k = 1 + random.nextInt(2); k > 0; k--) parts[random.nextInt(parts.length)] = " " + SPICE[random.nextInt(SPICE.length)];
        return String.join("", parts);
    }

    private void fuzz(Path path, Path file, int rounds) throws IOException {
        byte[] seed = Files.readAllBytes(file);
        boolean text = file.toString().endsWith("config.json");
        Random random = new Random(file.getFileName().toString().hashCode() + path.getFileName().toString().hashCode());
        assertTrue(reads(path), path.toString());
        int accepted = 0;
        for (int i = 0; i < rounds; i++) {
            Files.write(file, text ? mutated(new String(seed, StandardCharsets.UTF_8), random).getBytes(StandardCharsets.UTF_8) : mutated(seed, random));
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
            for (String target : new String[] {"gptq", "gptq-v2", "awq", "compressed-tensors"}) {
                Path path = dir.resolve(target);
                Exports.of(target, Exports.Options.DEFAULT).write(path, tiny.frozen());
                fuzz(path, path.resolve("config.json"), 400);
                fuzz(path, path.resolve("model.safetensors"), 60);
            }
        }
    }

    @Test
    void runDirectories() throws IOException {
        try (CpuBackend backend = new CpuBackend(1)) {
            Path path = tiny(backend).run(dir.resolve("run")).resolve("model");
            fuzz(path, path.resolve("config.json"), 400);
            fuzz(path, path.resolve("packed.safetensors"), 150);
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
