package dev.qat.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.data.ByteLevelTokenizer;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Exports hold one tensor at a time: a model of 190 MB goes through a process of 40 MB of heap whose own memory never exceeds 110 MB. */
class StreamingTest {
    private static final int LAYERS = 64, WIDTH = 256, MLP = 768, GROUP = 32;
    private static final String HEAP = "-Xmx40m";
    private static final long MOST = 110 << 20; // of which a bare JVM takes a half

    @TempDir
    static Path dir;

    /** What a finished run of 64 layers leaves; of a linear's weights only the codes are read, so the rest is zeros. */
    @BeforeAll
    static void model() throws IOException {
        Path model = Files.createDirectories(dir.resolve("run/model"));
        Files.writeString(model.resolve("config.json"), """
                {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d,
                 "num_attention_heads": 8, "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": 272,
                 "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257, "tie_word_embeddings": true}""".formatted(WIDTH, MLP, LAYERS));
        Files.writeString(model.resolve("tokenizer.json"), ByteLevelTokenizer.json());
        Files.writeString(model.resolve("tokenizer_config.json"), ByteLevelTokenizer.config(128));
        Map<String, long[]> shapes = new LinkedHashMap<>();
        shapes.put("model.embed_tokens.weight", new long[] {272, WIDTH});
        for (int i = 0; i < LAYERS; i++) {
            String at = "model.layers." + i + ".";
            for (String p : List.of("q", "k", "v", "o")) shapes.put(at + "self_attn." + p + "_proj.weight", new long[] {p.equals("k") || p.equals("v") ? WIDTH / 2 : WIDTH, WIDTH});
            for (String p : List.of("gate", "up")) shapes.put(at + "mlp." + p + "_proj.weight", new long[] {MLP, WIDTH});
            shapes.put(at + "mlp.down_proj.weight", new long[] {WIDTH, MLP});
            shapes.put(at + "input_layernorm.weight", new long[] {WIDTH});
            shapes.put(at + "post_attention_layernorm.weight", new long[] {WIDTH});
        }
        shapes.put("model.norm.weight", new long[] {WIDTH});
        List<Slot> slots = new ArrayList<>(), parts = new ArrayList<>();
        Map<String, String> meta = new LinkedHashMap<>();
        shapes.forEach((name, shape) -> {
            slots.add(new Slot(name, StoredType.F32, shape));
            if (Configs.linear(name).isEmpty()) return;
            String linear = Configs.linear(name);
            parts.add(new Slot(linear + ".codes", StoredType.I32, shape[0], shape[1] / 8));
            parts.add(new Slot(linear + ".step", StoredType.F32, shape[0], shape[1] / GROUP));
            parts.add(new Slot(linear + ".zero", StoredType.F32, shape[0], shape[1] / GROUP));
            meta.put(linear, "bits=4 group=%d columns=%d".formatted(GROUP, shape[1]));
        });
        Random random = new Random(1);
        write(model.resolve("model.safetensors"), slots, Map.of("format", "pt"), s -> MemorySegment.ofArray(new float[(int) s.count()]));
        write(model.resolve("packed.safetensors"), parts, meta, s -> {
            if (s.name().endsWith(".codes")) return MemorySegment.ofArray(random.ints(s.count()).toArray());
            float[] values = new float[(int) s.count()];
            Arrays.fill(values, s.name().endsWith(".step") ? 1 / 64f : 8);
            return MemorySegment.ofArray(values);
        });
        assertTrue(Files.size(model.resolve("model.safetensors")) > 180_000_000L);
    }

    private static void write(Path file, List<Slot> slots, Map<String, String> meta, java.util.function.Function<Slot, MemorySegment> bytes) {
        try (SafetensorsWriter out = SafetensorsWriter.open(file, slots, meta)) {
            for (Slot s : slots) out.write(s.name(), bytes.apply(s));
            out.finish();
        }
    }

    private static int inLittleMemory(String target, Path log) throws IOException, InterruptedException {
        Process child = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), HEAP, "-XX:+UseSerialGC", "--add-modules", "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), StreamingTest.class.getName(), dir.resolve("run/model").toString(), target,
                dir.resolve("out-" + target.replace(':', '-')).toString()).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        if (!child.waitFor(5, TimeUnit.MINUTES)) child.destroyForcibly();
        return child.waitFor();
    }

    /** In the process of its own: writes, reads back, proves.   args: model, target, file */
    public static void main(String[] args) {
        long[] peak = new long[1];
        Thread.ofPlatform().daemon().start(() -> {
            while (true) {
                peak[0] = Math.max(peak[0], anonymous());
                java.util.concurrent.locks.LockSupport.parkNanos(1_000_000);
            }
        });
        work(args);
        System.out.println("peak " + peak[0]);
    }

    /** Bytes of this process that are no mapped file. */
    private static long anonymous() {
        try {
            String line = Files.readAllLines(Path.of("/proc/self/status")).stream().filter(l -> l.startsWith("RssAnon:")).findFirst().orElseThrow();
            return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    private static long peak(String said) {
        return Long.parseLong(said.lines().filter(l -> l.startsWith("peak ")).findFirst().orElseThrow(() -> new AssertionError(said)).substring(5));
    }

    private static void work(String[] args) {
        try (Frozen model = FrozenDir.open(Path.of(args[0]))) {
            if (args[1].equals("whole")) {
                try (Arena arena = Arena.ofConfined()) { // every tensor at once, which the limit must not allow
                    model.shapes().forEach((name, shape) -> model.read(name, arena.allocate(4 * Arrays.stream(shape).reduce(1, (a, b) -> a * b), 64)));
                }
                return;
            }
            Report report = Exports.of(args[1], Exports.Options.DEFAULT).write(Path.of(args[2]), model);
            try (Frozen written = Exports.open(Path.of(args[2]))) {
                System.out.println("proved " + Proof.of(model, written, report).weights());
            }
        }
    }

    private static void requireLinux() {
        if (Files.exists(Path.of("/proc/self/status"))) return;
        System.err.println("SKIPPED: the memory of exports is measured on Linux only");
        org.junit.jupiter.api.Assumptions.abort("no /proc");
    }

    @ParameterizedTest
    @ValueSource(strings = {"gguf:q4_0", "gguf:q8_0", "gptq-v2", "awq", "compressed-tensors", "hf"})
    void oneTensorAtATime(String target) throws Exception {
        requireLinux();
        Path log = dir.resolve("log.txt");
        int code = inLittleMemory(target, log);
        String said = Files.readString(log);
        assertEquals(0, code, said);
        assertTrue(said.contains("proved " + LAYERS * (3L * WIDTH * WIDTH + 3L * WIDTH * MLP)), said);
        System.out.println(target + ": at most " + (peak(said) >> 20) + " MiB of its own");
        assertTrue(peak(said) < MOST, target + " took " + peak(said));
    }

    @Test
    void theLimitHasTeeth() throws Exception {
        requireLinux();
        Path log = dir.resolve("log.txt");
        assertEquals(0, inLittleMemory("whole", log), Files.readString(log));
        assertTrue(peak(Files.readString(log)) > MOST + (20 << 20), Files.readString(log));
    }
}
