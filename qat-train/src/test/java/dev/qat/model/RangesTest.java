package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Static ranges by way of config.json: the model that reads them computes and decodes what the one that wrote them did, to the bit. */
final class RangesTest {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5};

    /** A range for every value, each another; keys and values in fewer bits. */
    private static void fill(Model m) {
        float scale = 0.1f;
        for (Block b : m.blocks()) {
            for (Ranges.Value v : Ranges.values(b)) {
                Param step = new Param("step", Param.Kind.SCALE, m.memory().tensor("step", 1));
                m.memory().set(step.value(), scale += 0.0123f);
                Site.Whole q = new Site.Whole(v.cached() ? 4 : 6, step);
                v.sites().forEach(s -> s.add(q));
            }
        }
    }

    private static ObjectNode described(Model m) {
        ObjectNode config = Tiny.json(Tiny.LLAMA);
        Ranges.describe(m, config);
        return Tiny.json(config.toString()); // through its text, as a file
    }

    @ParameterizedTest
    @CsvSource({"llama, 0", "biased, 0", "qwen2, 0", "qwen3, 0", "llama, 2"})
    void whatConfigSaysIsComputedAndDecoded(String kind, int heads) {
        try (Backend cpu = new CpuBackend(1)) {
            Model wrote = Tiny.model(cpu, Tiny.named(kind), 5), read = Tiny.model(cpu, Tiny.named(kind), 5);
            for (Model m : new Model[] {wrote, read}) m.turn(new ModelConfig.Online(0, heads, 2 * heads, false));
            float[] plain = new Probe(cpu, wrote).logits(IDS);
            fill(wrote);
            Ranges.install(read, described(wrote), "config.json");
            float[] rounded = new Probe(cpu, wrote).logits(IDS);
            assertTrue(Probe.off(plain, rounded) > 0.1, "rounding must show");
            assertArrayEquals(rounded, new Probe(cpu, read).logits(IDS));
            assertEquals(0, Probe.off(rounded, new Probe(cpu, read).decodedLogits(IDS)), 1e-4, "decoded");
        }
    }

    @Test
    void aModelWithoutRangesSaysNothing() {
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, Tiny.LLAMA, 5);
            ObjectNode config = Tiny.json(Tiny.LLAMA);
            config.putObject(Ranges.KEY);
            Ranges.describe(m, config);
            assertFalse(config.has(Ranges.KEY), "what the source said of its own is gone");
            Ranges.install(m, config.putNull(Ranges.KEY), "config.json");
            assertTrue(m.blocks().stream().flatMap(b -> Ranges.values(b).stream()).flatMap(v -> v.sites().stream()).allMatch(Site::isEmpty));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"\"bits\":1", "\"bits\":17", "\"bits\":\"many\"", "\"scale\":0", "\"scale\":-0.5", "\"scale\":1e300", "\"scale\":1e-300", "\"scale\":null", "\"zero_point\":3"})
    void badNumbersAreRefused(String bad) {
        Fail f = refused(Tiny.json("{\"blocks\": [{}, {\"o_input\": %s}]}".formatted(Tiny.with("{\"bits\":8,\"scale\":0.1,\"zero_point\":0}", "{" + bad + "}"))));
        assertTrue(f.getMessage().contains("config.json: static_quantization of block 1 gives o_input as"), f.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"{\"scheme\": \"per channel\"}", "{\"blocks\": [{}]}", "{\"blocks\": 2}", "{\"blocks\": [{}, {\"queries\": {}}]}", "{\"blocks\": [{}, 7]}"})
    void whatItDoesNotKnowIsRefused(String bad) {
        assertTrue(refused(Tiny.json(bad)).getMessage().startsWith("config.json: static_quantization "));
    }

    private static Fail refused(ObjectNode changes) {
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, Tiny.LLAMA, 5);
            fill(m);
            ObjectNode config = described(m);
            ((ObjectNode) config.get(Ranges.KEY)).setAll(changes);
            m.clearSites();
            Fail f = assertThrows(Fail.class, () -> Ranges.install(m, config, "config.json"));
            assertEquals(Fail.DATA, f.code());
            return f;
        }
    }
}
