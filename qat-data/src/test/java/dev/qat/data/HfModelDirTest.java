package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.data.SafetensorsWriter.Slot;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HfModelDirTest {
    @TempDir
    Path temp;
    private Path dir;

    @BeforeEach
    void aSmallModelInTwoShards() throws IOException {
        dir = Files.createDirectory(temp.resolve("model"));
        Files.writeString(dir.resolve("config.json"), "{\"model_type\": \"llama\", \"bos_token_id\": 3, \"eos_token_id\": 4}");
        shard("model-1.safetensors", "a", 1, 2);
        shard("model-2.safetensors", "b", 3, 4);
        index("a", "model-1.safetensors", "b", "model-2.safetensors");
    }

    private void shard(String file, String tensor, float... values) {
        try (var out = SafetensorsWriter.open(dir.resolve(file), List.of(new Slot(tensor, StoredType.F32, values.length)), Map.of())) {
            out.writeFloats(tensor, MemorySegment.ofArray(values));
            out.finish();
        }
    }

    private void index(String... pairs) throws IOException {
        var root = Json.MAPPER.createObjectNode();
        var map = root.putObject("weight_map");
        for (int i = 0; i < pairs.length; i += 2) map.put(pairs[i], pairs[i + 1]);
        Files.writeString(dir.resolve(HfModelDir.INDEX), root.toString());
    }

    private static float[] read(HfModelDir model, String name) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment floats = arena.allocate(4 * model.entry(name).count());
            model.read(name, floats);
            return floats.toArray(ValueLayout.JAVA_FLOAT);
        }
    }

    @Test
    void readsShards() {
        try (HfModelDir model = HfModelDir.open(dir)) {
            assertEquals(List.of("a", "b"), model.names());
            assertArrayEquals(new float[] {3, 4}, read(model, "b"));
            assertArrayEquals(new long[] {2}, model.shape("a"));
            assertEquals("llama", model.config().get("model_type").asText());
            assertEquals(dir, model.dir());
            assertTrue(model.has("a") && !model.has("c"));
            model.expect("a", 2);
            Failing.data(() -> model.expect("a", 1, 2), dir, "tensor a has shape [2], expected [1, 2]");
            Failing.data(() -> model.read("c", MemorySegment.ofArray(new float[1])), dir, "no tensor c");
        }
    }

    @Test
    void whatIsMissingIsNamed() throws IOException {
        Failing.data(() -> HfModelDir.open(temp.resolve("none")), temp.resolve("none"), "no such model directory");
        Path shard = dir.resolve("model-2.safetensors");
        Files.delete(shard);
        Failing.data(() -> HfModelDir.open(dir), shard, "the shard is missing", "download");
        Files.delete(dir.resolve(HfModelDir.INDEX));
        Failing.data(() -> HfModelDir.open(dir), dir, "no weights", "download");
        Files.writeString(dir.resolve("pytorch_model.bin"), "");
        Failing.data(() -> HfModelDir.open(dir), dir, "no weights", "safe_serialization");
        Files.delete(dir.resolve("config.json"));
        Failing.data(() -> HfModelDir.open(dir), dir, "no config.json");
    }

    @Test
    void damagedConfigsAndIndexesAreNamed() throws IOException {
        index("a", "model-1.safetensors", "b", "model-1.safetensors");
        Failing.data(() -> HfModelDir.open(dir), "model-1.safetensors", "tensor b should be in this shard");
        index();
        Failing.data(() -> HfModelDir.open(dir), HfModelDir.INDEX, "no weight_map");
        Files.writeString(dir.resolve("config.json"), "{\"a\": 1,\n oops}");
        Failing.data(() -> HfModelDir.open(dir), "config.json", "line 2");
        Files.writeString(dir.resolve("config.json"), "[1]");
        Failing.data(() -> HfModelDir.open(dir), "config.json", "array");
        Files.writeString(dir.resolve("config.json"), "");
        Failing.data(() -> HfModelDir.open(dir), "config.json");
        Files.writeString(dir.resolve("config.json"), "{} {}");
        Failing.data(() -> HfModelDir.open(dir), "config.json", "not valid JSON");
    }

    @Test
    void anIndexCannotLeadOutOfTheDirectory() throws IOException {
        Files.copy(dir.resolve("model-1.safetensors"), temp.resolve("secret.safetensors"));
        Path sub = Files.createDirectory(dir.resolve("sub"));
        Files.copy(dir.resolve("model-1.safetensors"), sub.resolve("m.safetensors"));
        for (String name : List.of("../secret.safetensors", temp.resolve("secret.safetensors").toString(), "sub/m.safetensors",
                "..\\secret.safetensors", "C:x.safetensors", "config.json", "..", "", "a\u0000.safetensors")) {
            index("a", name);
            Failing.data(() -> HfModelDir.open(dir), HfModelDir.INDEX, "plain name");
        }
    }

    @Test
    void specialIdsComeFromTheGenerationConfigFirst() throws IOException {
        assertEquals(3, SpecialIds.of(dir).bos());
        assertArrayEquals(new int[] {4}, SpecialIds.of(dir).eos());
        Path generation = dir.resolve("generation_config.json");
        Files.writeString(generation, "{\"eos_token_id\": [5, 6], \"bos_token_id\": null}");
        try (HfModelDir model = HfModelDir.open(dir)) {
            assertEquals(3, model.specialIds().bos());
            assertArrayEquals(new int[] {5, 6}, model.specialIds().eos());
        }
        for (String bad : List.of("\"x\"", "-1", "1.5", "[1, null]", "4294967296")) {
            Files.writeString(generation, "{\"eos_token_id\": " + bad + "}");
            Failing.data(() -> HfModelDir.open(dir), generation, "eos_token_id");
        }
        assertEquals(-1, SpecialIds.of(temp).bos());
        assertEquals(0, SpecialIds.of(temp).eos().length);
    }

    @Test
    void theFingerprintSeesBytesShapesAndNamesButNotShards() throws IOException {
        Set<String> prints = new HashSet<>();
        String sharded;
        try (HfModelDir model = HfModelDir.open(dir)) {
            sharded = model.fingerprint();
            assertEquals(64, sharded.length());
            assertEquals(sharded, model.fingerprint());
        }
        assertEquals(sharded, single(StoredType.F32, new long[] {2}, "b", 3, 4), "one file instead of two");
        prints.add(sharded);
        assertTrue(prints.add(single(StoredType.F32, new long[] {2}, "b", 3, 5)), "a value");
        assertTrue(prints.add(single(StoredType.F32, new long[] {1, 2}, "b", 3, 4)), "a shape");
        assertTrue(prints.add(single(StoredType.F32, new long[] {2}, "c", 3, 4)), "a name");
        assertTrue(prints.add(single(StoredType.BF16, new long[] {2}, "b", 3, 4)), "a dtype");
    }

    private String single(StoredType dtype, long[] shape, String second, float... values) {
        try (var out = SafetensorsWriter.open(dir.resolve(HfModelDir.SINGLE),
                List.of(new Slot(second, dtype, shape), new Slot("a", StoredType.F32, 2)), Map.of())) {
            out.writeFloats(second, MemorySegment.ofArray(values));
            out.writeFloats("a", MemorySegment.ofArray(new float[] {1, 2}));
            out.finish();
        }
        try (HfModelDir model = HfModelDir.open(dir)) {
            return model.fingerprint();
        }
    }

    /** Names and shapes of every tensor as golden.json's gradients list them, and its config's own numbers. */
    @Test
    void theRealModelsHaveTheTensorsTheirReferenceLists() {
        for (String name : List.of("stories260K", "tinystories656K", "stories3M")) {
            JsonNode grads = Json.object(Shared.asset(name).resolve("golden.json")).at("/loss_and_grads/grads");
            try (HfModelDir model = HfModelDir.open(Shared.asset(name))) {
                Set<String> names = new HashSet<>();
                grads.fieldNames().forEachRemaining(names::add);
                assertEquals(names, new HashSet<>(model.names()));
                for (String tensor : names) {
                    JsonNode shape = grads.get(tensor).get("shape");
                    for (int i = 0; i < shape.size(); i++) assertEquals(shape.get(i).asLong(), model.shape(tensor)[i], tensor);
                }
                assertEquals(1, model.specialIds().bos());
            }
        }
        try (HfModelDir model = HfModelDir.open(Shared.asset("stories260K"))) {
            assertArrayEquals(new int[] {1, 2}, model.specialIds().eos());
        }
    }
}
