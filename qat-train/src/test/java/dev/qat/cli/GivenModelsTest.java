package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.HfModelDir;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.export.Exports;
import dev.qat.export.FrozenDir;
import dev.qat.export.Lattice;
import dev.qat.export.Tiny;
import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

/** Models that somebody else packed, laid out here as formats.md says and not by our writer: judged by {@code qat eval}, and trained on by {@code qat train}. */
class GivenModelsTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path dir;
    @RegisterExtension
    final Console console = new Console();
    private final ByteArrayOutputStream out = console.out, err = console.err;
    @AutoClose
    private final CpuBackend backend = new CpuBackend(1);

    @BeforeEach
    void capture() throws IOException {
        Files.writeString(dir.resolve("text.txt"), "A text that says little, and says it again and again. ".repeat(12));
    }

    private JsonNode eval(Path model, String... words) throws IOException {
        return console.eval(model, dir.resolve("text.txt"), Stream.concat(Stream.of("window=32"), Stream.of(words)).toArray(String[]::new));
    }

    private static final int BITS = 4, GROUP = 32;

    private static int seed(String linear) {
        return Math.floorMod(linear.hashCode(), 97);
    }

    /** A code, zero point and scale of a linear by rule. */
    private static int code(int seed, int o, int i) {
        return (o * 7 + i * 13 + seed * 5 + o * i) >>> 1 & 15;
    }

    private static int zero(int seed, int o, int g) {
        return 6 + (o + g + seed) % 4;
    }

    private static float scale(int seed, int o, int g) {
        return Float.float16ToFloat(Float.floatToFloat16(0.02f + 0.001f * ((o * 3 + g + seed) % 11)));
    }

    /** GPTQ version 1: qweight (I/8, O) packs along inputs, qzeros (I/G, O/8) zero − 1 along outputs, scales F16 (I/G, O). */
    private Path gptq() throws IOException {
        return gptq(null);
    }

    /** @param order the group of each input in every linear (desc_act), or null for neighbours */
    private Path gptq(IntUnaryOperator order) throws IOException {
        Path model = Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").run(dir.resolve("plain")).resolve("model"), to = Files.createDirectories(dir.resolve("theirs"));
        for (String file : List.of("tokenizer.json", "tokenizer_config.json")) Files.copy(model.resolve(file), to.resolve(file), StandardCopyOption.REPLACE_EXISTING);
        ObjectNode config = (ObjectNode) JSON.readTree(model.resolve("config.json").toFile());
        config.putObject("quantization_config").put("quant_method", "gptq").put("bits", BITS).put("group_size", GROUP).put("desc_act", order != null).put("sym", false);
        JSON.writeValue(to.resolve("config.json").toFile(), config);
        Map<String, MemorySegment> parts = new LinkedHashMap<>();
        List<Slot> slots = new ArrayList<>();
        try (HfModelDir plain = HfModelDir.open(model)) {
            for (String name : plain.names()) {
                long[] shape = plain.shape(name);
                if (!name.endsWith("_proj.weight")) {
                    slots.add(new Slot(name, StoredType.F32, shape));
                    parts.put(name, MemorySegment.ofArray(plain.bytes(name).toArray(java.lang.foreign.ValueLayout.JAVA_BYTE)));
                } else {
                    String linear = name.substring(0, name.length() - 7);
                    pack(linear, seed(linear), (int) shape[0], (int) shape[1], slots, parts);
                    int[] groups = order == null ? null : IntStream.range(0, (int) shape[1]).map(order).toArray();
                    if (order != null) put(slots, parts, new Slot(linear + ".g_idx", StoredType.I32, groups.length), MemorySegment.ofArray(groups));
                }
            }
        }
        try (SafetensorsWriter file = SafetensorsWriter.open(to.resolve("model.safetensors"), slots, Map.of("format", "pt"))) {
            slots.forEach(s -> file.write(s.name(), parts.get(s.name())));
            file.finish();
        }
        return to;
    }

    private static void pack(String p, int seed, int O, int I, List<Slot> slots, Map<String, MemorySegment> parts) {
        int[] weight = new int[I / 8 * O], zeros = new int[I / GROUP * (O / 8)];
        short[] scales = new short[I / GROUP * O];
        for (int r = 0; r < I / 8; r++) for (int o = 0; o < O; o++) for (int j = 0; j < 8; j++) weight[r * O + o] |= code(seed, o, 8 * r + j) << 4 * j;
        for (int g = 0; g < I / GROUP; g++) {
            for (int o = 0; o < O; o++) {
                zeros[g * (O / 8) + o / 8] |= zero(seed, o, g) - 1 << 4 * (o % 8);
                scales[g * O + o] = Float.floatToFloat16(scale(seed, o, g));
            }
        }
        put(slots, parts, new Slot(p + ".qweight", StoredType.I32, I / 8, O), MemorySegment.ofArray(weight));
        put(slots, parts, new Slot(p + ".qzeros", StoredType.I32, I / GROUP, O / 8), MemorySegment.ofArray(zeros));
        put(slots, parts, new Slot(p + ".scales", StoredType.F16, I / GROUP, O), MemorySegment.ofArray(scales));
    }

    private static void put(List<Slot> slots, Map<String, MemorySegment> parts, Slot slot, MemorySegment bytes) {
        slots.add(slot);
        parts.put(slot.name(), bytes);
    }

    @Test
    void somebodyElsesCodesAreTrainedOn() throws IOException {
        Path theirs = gptq();
        Files.writeString(dir.resolve("recipe.yaml"), """
                name: on
                model: {path: %1$s/theirs}
                backend: cpu
                threads: 1
                output: %1$s/runs
                target: gptq:w4g32
                data: {files: [%1$s/text.txt], length: 16, windows: 32}
                eval: {files: [%1$s/text.txt], length: 16, windows: 8, batch: 4}
                stages:
                  - {method: e2e-qp, epochs: 3, batch: 4, rate: 1e-2}
                """.formatted(dir));
        assertEquals(0, Main.run("plan", dir.resolve("recipe.yaml").toString()), err.toString(UTF_8));
        assertEquals(0, Main.run("train", dir.resolve("recipe.yaml").toString()), err.toString(UTF_8));
        Path run = dir.resolve("runs/on");
        JsonNode stages = JSON.readTree(run.resolve("result.json").toFile()).get("stages");
        double before = stages.get(0).get("perplexity").asDouble(), after = stages.get(1).get("perplexity").asDouble();
        assertTrue(after < 0.98 * before, "steps did not learn: " + before + " -> " + after);
        assertFalseQuantizationConfig(run.resolve("model/config.json"));
        try (FrozenDir trained = FrozenDir.open(run.resolve("model")); var exported = Exports.open(run.resolve("export/gptq-w4g32"))) {
            int moved = 0;
            for (String name : trained.quantized()) {
                int seed = seed(name);
                Lattice l = trained.lattice(name), e = exported.lattice(name);
                int[] codes = new int[l.cols()];
                for (int o = 0; o < l.rows(); o++) {
                    l.codes(codes, o);
                    for (int i = 0; i < codes.length; i++) assertEquals(code(seed, o, i), codes[i], name + " " + o + " " + i);
                    for (int g = 0; g < l.groups(); g++) {
                        assertEquals(zero(seed, o, g), l.zero()[o * l.groups() + g]);
                        if (l.step()[o * l.groups() + g] != scale(seed, o, g)) moved++;
                    }
                }
                assertArrayEquals(l.words(), e.words());
                assertArrayEquals(l.step(), e.step(), "steps were trained as fp16");
            }
            assertEquals(14, trained.quantized().size());
            assertTrue(moved > 100, "only " + moved + " steps moved");
        }
        assertNotEquals(before, after);
    }

    private static void assertFalseQuantizationConfig(Path config) throws IOException {
        assertTrue(!JSON.readTree(config.toFile()).has("quantization_config"), "the run's model is plain");
    }

    /** A file that llama.cpp rounded: its steps train, its codes stay, and what is written holds both. */
    @Test
    void stepsOfSomebodyElsesGgufAreTrained() throws IOException {
        Path run = Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").quantize(Tiny.symmetric(4, 32)).run(dir.resolve("run"));
        assertEquals(0, Main.run("export", run.toString(), "--target", "gguf:q4_0", "--usual", "threads=1", "windows=1", "length=16"), err.toString(UTF_8));
        if (out.toString(UTF_8).contains("SKIPPED")) {
            console.shout("SKIPPED: no test with llama.cpp: " + out.toString(UTF_8));
            org.junit.jupiter.api.Assumptions.abort("no llama.cpp");
        }
        Path theirs = Files.copy(run.resolve("export/usual-gguf-q4_0.gguf"), dir.resolve("theirs.gguf"));
        err.reset();
        assertEquals(0, Main.run("train", recipe("on", theirs, "gguf:q4_0", "{method: e2e-qp, epochs: 3, batch: 4, rate: 1e-2}")), err.toString(UTF_8));
        assertTrue(err.toString(UTF_8).contains("the codes of 14 linears are kept"), err.toString(UTF_8));
        Path trained = dir.resolve("runs/on");
        JsonNode stages = JSON.readTree(trained.resolve("result.json").toFile()).get("stages");
        double before = stages.get(0).get("perplexity").asDouble(), after = stages.get(1).get("perplexity").asDouble();
        assertTrue(after < 0.98 * before, "steps did not learn: " + before + " -> " + after);
        int moved = 0, below = 0;
        try (var start = Exports.open(theirs); var end = Exports.open(trained.resolve("export/gguf-q4_0.gguf"))) {
            for (String name : start.quantized()) {
                Lattice a = start.lattice(name), b = end.lattice(name);
                assertArrayEquals(a.words(), b.words(), name);
                for (int i = 0; i < a.step().length; i++) {
                    if (a.step()[i] != b.step()[i]) moved++;
                    if (a.step()[i] < 0 && b.step()[i] < 0) below++;
                }
            }
        }
        assertTrue(moved > 100 && below > 50, moved + " steps moved, " + below + " are below zero");
        // a changed file is another start
        byte[] bytes = Files.readAllBytes(theirs);
        bytes[bytes.length - 40] ^= 1;
        Files.write(theirs, bytes);
        assertEquals(0, Main.run("train", dir.resolve("recipe.yaml").toString()), err.toString(UTF_8));
        assertTrue(err.toString(UTF_8).contains("another run, which this one will replace (model: "), err.toString(UTF_8));
    }

    /** Any stage begins with what the blocks stand for. */
    @Test
    void aGgufOfPlainWeightsIsAStart() throws IOException {
        Path run = Tiny.of(dir.resolve("source"), backend, "llama", 64, 96, "").run(dir.resolve("run")), alone = dir.resolve("f16.gguf");
        assertEquals(0, Main.run("export", run.toString(), "--target", "gguf:f16", "--out", alone.toString(), "threads=1", "windows=1", "length=16"), err.toString(UTF_8));
        assertEquals(Fail.USAGE, Main.run("train", recipe("no", alone, "hf", "{method: e2e-qp}")));
        assertTrue(err.toString(UTF_8).contains("no codes to go on from") && err.toString(UTF_8).contains("put rtn or block-ap before it"), err.toString(UTF_8));
        assertEquals(0, Main.run("train", recipe("rtn", alone, "gptq-v2:w4g32", "{method: rtn}")), err.toString(UTF_8));
        JsonNode result = JSON.readTree(dir.resolve("runs/rtn/result.json").toFile());
        assertTrue(result.get("export").get("proved_weights").asLong() == 61_440, result.toString());
        assertTrue(Files.isRegularFile(dir.resolve("runs/rtn/model/tokenizer.json")));
    }

    private String recipe(String name, Path model, String target, String stage) throws IOException {
        return Files.writeString(dir.resolve("recipe.yaml"), """
                name: %2$s
                model: {path: %3$s}
                backend: cpu
                threads: 1
                output: %1$s/runs
                target: %4$s
                data: {files: [%1$s/text.txt], length: 16, windows: 32}
                eval: {files: [%1$s/text.txt], length: 16, windows: 8, batch: 4}
                stages:
                  - %5$s
                """.formatted(dir, name, model, target, stage)).toString();
    }

    /** A byte vector of the format decides what the model is, not our reader's idea of it. */
    @Test
    void theirDirectoryIsReadAsTheFormatSays() throws IOException {
        try (var in = Exports.open(gptq())) {
            assertEquals(14, in.quantized().size());
            for (String name : in.quantized()) {
                int seed = seed(name);
                long[] shape = in.shapes().get(name + ".weight");
                float[] w = new float[(int) (shape[0] * shape[1])];
                in.read(name + ".weight", MemorySegment.ofArray(w));
                for (int o = 0; o < shape[0]; o++) {
                    for (int i = 0; i < shape[1]; i++) {
                        assertEquals((code(seed, o, i) - zero(seed, o, i / GROUP)) * scale(seed, o, i / GROUP), w[(int) (o * shape[1] + i)], 0, name);
                    }
                }
            }
        }
    }

    /** With desc_act, g_idx says which group's scale and zero point an input has; such a model is judged, and its weights can be rounded anew. */
    @Test
    void anOrderOfItsOwnIsReadAndNotTrained() throws IOException {
        IntUnaryOperator order = i -> i < 64 ? i % 2 : 2; // rows have 64 and 96 inputs, groups 32
        Path theirs = gptq(order);
        try (var in = Exports.open(theirs)) {
            assertEquals(List.of(), in.quantized());
            assertTrue(in.remark().startsWith("14 linears were quantized in an order of their own (desc_act)"), in.remark());
            for (String name : in.shapes().keySet()) {
                if (!name.endsWith("_proj.weight")) continue;
                int seed = seed(name.substring(0, name.length() - 7));
                long[] shape = in.shapes().get(name);
                float[] w = new float[(int) (shape[0] * shape[1])];
                in.read(name, MemorySegment.ofArray(w));
                for (int o = 0; o < shape[0]; o++) {
                    for (int i = 0; i < shape[1]; i++) {
                        int g = order.applyAsInt(i);
                        assertEquals((code(seed, o, i) - zero(seed, o, g)) * scale(seed, o, g), w[(int) (o * shape[1] + i)], 0, name + " " + o + " " + i);
                    }
                }
            }
        }
        double judged = eval(theirs).get("perplexity").asDouble();
        assertTrue(Double.isFinite(judged) && Math.abs(judged / eval(gptq()).get("perplexity").asDouble() - 1) > 1e-3, "the order has no effect");
        assertEquals(Fail.USAGE, Main.run("train", recipe("no", gptq(order), "hf", "{method: e2e-qp}")));
        assertTrue(err.toString(UTF_8).contains("desc_act") && err.toString(UTF_8).contains("their steps do not train"), err.toString(UTF_8));
        assertEquals(0, Main.run("train", recipe("again", theirs, "gptq:w4g32-sym", "{method: rtn}")), err.toString(UTF_8));
        err.reset();
        assertEquals(Fail.DATA, Main.run("eval", "--model", gptq(i -> i % 2 == 0 ? 0 : 5).toString(), "--text", dir.resolve("text.txt").toString()));
        assertTrue(err.toString(UTF_8).contains("g_idx puts input 1 into group 5, expected 2 groups of 32 inputs"), err.toString(UTF_8));
    }

    @Test
    void aPackedModelIsNoPlainOne() throws IOException {
        Path theirs = gptq();
        Random random = new Random(4);
        Path file = theirs.resolve("model.safetensors");
        byte[] bytes = Files.readAllBytes(file);
        bytes[200 + random.nextInt(300)] ^= 1; // somewhere in the header
        Files.write(file, bytes);
        int code = Main.run("eval", "--model", theirs.toString(), "--text", dir.resolve("text.txt").toString());
        assertEquals(Fail.DATA, code, err.toString(UTF_8));
    }
}
