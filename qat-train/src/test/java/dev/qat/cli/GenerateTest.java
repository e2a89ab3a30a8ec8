package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.data.GeneratedSet;
import dev.qat.data.Tokenizer;
import dev.qat.data.Vocabulary;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code qat generate} on the committed model: killed and run again, in parts, with other settings, with damage. */
final class GenerateTest {
    private static final Path ROOT = Path.of(System.getProperty("qat.root", ".")).toAbsolutePath().normalize();
    private static final Path MODEL = ROOT.resolve("examples/models/shakespeare-3m");

    @TempDir
    Path temp;

    private String[] words(String name, String... more) throws IOException {
        Path recipe = temp.resolve("generate.yaml");
        Files.writeString(recipe, """
                name: none
                model: {path: %s}
                threads: 2
                generate: {sequences: 60, length: 20, batch: 6, shard: 12}
                compare: {windows: 4}
                """.formatted(MODEL));
        return Stream.concat(Stream.of("generate", recipe.toString(), "name=" + name, "output=" + temp), Stream.of(more)).toArray(String[]::new);
    }

    private Path generate(String name, String... more) throws IOException {
        assertEquals(0, Main.run(words(name, more)));
        return temp.resolve(name);
    }

    /** Every file of a folder, hidden ones too. */
    private static Map<String, byte[]> bytes(Path folder, String names) throws IOException {
        Map<String, byte[]> all = new TreeMap<>();
        try (Stream<Path> inside = Files.list(folder)) {
            for (Path p : inside.toList()) if (p.getFileName().toString().matches(names)) all.put(p.getFileName().toString(), Files.readAllBytes(p));
        }
        return all;
    }

    private static void assertSame(Map<String, byte[]> expected, Map<String, byte[]> actual) {
        assertEquals(expected.keySet(), actual.keySet());
        expected.forEach((name, bytes) -> assertArrayEquals(bytes, actual.get(name), name));
    }

    private static Vocabulary vocabulary() throws IOException {
        int size = new ObjectMapper().readTree(MODEL.resolve("config.json").toFile()).get("vocab_size").asInt();
        try (Tokenizer t = Tokenizer.of(MODEL)) {
            return t.vocabulary(size);
        }
    }

    /** A real kill, at whatever point the first or second shard was in; then once more with half of the manifest lost. */
    @Test
    void killedAndRunAgainItEndsInTheSameBytes() throws Exception {
        Path whole = generate("whole");
        Path killed = temp.resolve("killed");
        kill("killed", () -> Files.exists(killed.resolve("tokens-00000.bin")));
        assertFalse(Files.exists(killed.resolve("quality-0-of-1.json")), "it was done before it was killed");
        Files.write(killed.resolve(".tokens-00003.bin.1-0123.tmp"), new byte[7]); // what a kill in mid-write leaves
        assertSame(bytes(whole, ".*"), bytes(generate("killed"), ".*"));

        Path manifest = killed.resolve("manifest-0-of-1.json");
        JsonNode json = new ObjectMapper().readTree(manifest.toFile());
        ((com.fasterxml.jackson.databind.node.ArrayNode) json.get("shards")).remove(3);
        Files.writeString(manifest, json.toString());
        Files.delete(killed.resolve("tokens-00001.bin"));
        assertSame(bytes(whole, ".*"), bytes(generate("killed"), ".*"));
    }

    /** Kills a process of the command once something is so; what it printed until then. */
    private String kill(String name, BooleanSupplier now, String... more) throws Exception {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "--add-modules", "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), Main.class.getName()));
        command.addAll(List.of(words(name, more)));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(temp.resolve("log").toFile()).start();
        for (int i = 0; i < 60_000 && process.isAlive() && !now.getAsBoolean(); i++) Thread.sleep(2);
        process.destroyForcibly().waitFor(1, TimeUnit.MINUTES);
        String said = Files.readString(temp.resolve("log"));
        assertTrue(now.getAsBoolean(), said);
        return said;
    }

    private static long size(Path file) {
        try {
            return Files.exists(file) ? Files.size(file) : 0;
        } catch (IOException e) {
            return 0;
        }
    }

    /** Killed three times inside its only shard it goes on with what it had said; where that is damaged, it begins again. */
    @Test
    void killedInsideAShardItGoesOnWhereItStood() throws Exception {
        String[] one = {"generate.length=90", "generate.shard=60"};
        Path whole = generate("long", one), killed = temp.resolve("inside"), begun = killed.resolve(".tokens-00000.begun");
        for (int kills = 0; kills < 3; kills++) {
            long before = size(begun);
            String said = kill("inside", () -> size(begun) > before, one);
            assertEquals(kills > 0, said.contains("goes on where it stood"), said);
            assertFalse(Files.exists(killed.resolve("tokens-00000.bin")), "it was done before it was killed");
        }
        byte[] stood = Files.readAllBytes(begun);
        assertSame(bytes(whole, ".*"), bytes(generate("inside", one), ".*"));

        Path damaged = temp.resolve("damaged");
        Files.createDirectories(damaged);
        stood[stood.length / 2] ^= 1;
        Files.write(damaged.resolve(".tokens-00000.begun"), stood);
        assertSame(bytes(whole, ".*"), bytes(generate("damaged", one), ".*"));
    }

    @Test
    void fourPartsAreTheWhole() throws Exception {
        Path whole = generate("whole"), parts = null;
        for (int i = 3; i >= 0; i--) {
            parts = generate("parts", "--part", i + "/4");
            generate("apart-" + i, "--part", i + "/4");
        }
        assertSame(bytes(whole, "tokens.*"), bytes(parts, "tokens.*"));
        int[] all = GeneratedSet.stream(List.of(whole), vocabulary());
        assertArrayEquals(all, GeneratedSet.stream(List.of(parts), vocabulary()));
        long tokens = 0;
        for (int i = 0; i < 4; i++) {
            Path apart = temp.resolve("apart-" + i);
            assertSame(bytes(parts, "manifest-" + i + "-of-4.json"), bytes(apart, "manifest.*"));
            tokens += GeneratedSet.stream(List.of(apart), vocabulary()).length;
        }
        assertEquals(all.length, tokens);
        assertEquals(60, GeneratedSet.sequences(all, all[0]).size());
    }

    @Test
    void anotherSetInTheSameFolderIsRefusedWithWhatDiffers() throws Exception {
        Path folder = generate("one", "generate.sequences=12");
        Map<String, byte[]> before = bytes(folder, ".*");
        assertEquals(Fail.DATA, Main.run(words("one", "generate.sequences=12", "seed=2")));
        assertSame(before, bytes(folder, ".*"));
    }

    @Test
    void damagedAndMissingShardsAreRefused() throws Exception {
        Path folder = generate("damaged", "generate.sequences=24");
        byte[] shard = Files.readAllBytes(folder.resolve("tokens-00001.bin"));
        shard[80] ^= 1;
        Files.write(folder.resolve("tokens-00001.bin"), shard);
        assertTrue(assertThrows(Fail.class, () -> GeneratedSet.stream(List.of(folder), vocabulary())).getMessage().contains("tokens-00001.bin"));
        Files.delete(folder.resolve("tokens-00001.bin"));
        assertTrue(assertThrows(Fail.class, () -> GeneratedSet.stream(List.of(folder), vocabulary())).getMessage().contains("not there"));
        assertEquals(Fail.DATA, assertThrows(Fail.class, () -> GeneratedSet.stream(List.of(temp), vocabulary())).code());
    }

    @Test
    void limitsKeepDegenerateSequencesOut() throws Exception {
        Path folder = generate("kept", "generate.mode=greedy", "generate.length=60", "generate.sequences=24", "keep.max-repetition=0.2");
        JsonNode quality = new ObjectMapper().readTree(folder.resolve("quality-0-of-1.json").toFile()), manifest = new ObjectMapper().readTree(folder.resolve("manifest-0-of-1.json").toFile());
        int made = 0, kept = 0;
        for (JsonNode s : manifest.get("shards")) {
            made += s.get("sequences").asInt();
            kept += s.get("kept").asInt();
        }
        assertEquals(24, made);
        assertTrue(kept > 0 && kept < 24, kept + " kept");
        assertEquals(kept, quality.get("kept").asInt());
        assertTrue(quality.get("repetition").asDouble() <= 0.2);
    }

    /** What was generated trains: the recipe's data.tokens. */
    @Test
    void aRecipeReadsWhatWasGenerated() throws Exception {
        Path set = generate("set", "generate.sequences=24"), recipe = temp.resolve("train.yaml");
        Files.writeString(recipe, """
                name: trained
                model: {path: %s}
                output: %s
                data: {tokens: [%s], length: 16}
                eval: {length: 16, windows: 4}
                stages:
                  - {method: llm-qat, bits: 4-8-4, epochs: 1, batch: 4, windows: samples}
                """.formatted(MODEL, temp, set));
        assertEquals(0, Main.run("train", recipe.toString(), "backend=cpu", "threads=2"));
        JsonNode result = new ObjectMapper().readTree(temp.resolve("trained/result.json").toFile());
        assertEquals(GeneratedSet.stream(List.of(set), vocabulary()).length / 16, result.get("train_windows").asInt());
        assertEquals(windows(recipe, 1, false), windows(recipe, 2, false), "the first ones, whatever the seed");
        assertTrue(!windows(recipe, 1, true).equals(windows(recipe, 2, true)), "drawn by the seed");
    }

    /** The hash of seven windows to train on and of those to judge by, which are in a file. */
    private String windows(Path recipe, int seed, boolean draw) throws IOException {
        Path text = Files.writeString(temp.resolve("text.txt"), "Some words to judge by, and some more. ".repeat(20));
        assertEquals(0, Main.run("train", recipe.toString(), "backend=cpu", "threads=2", "name=drawn", "checkpoint.resume=never", "seed=" + seed, "data.draw=" + draw, "data.windows=7",
                "eval.files=[" + text + "]", "stages=[{method: min-max, bits: 4-8-4}]"));
        JsonNode result = new ObjectMapper().readTree(temp.resolve("drawn/result.json").toFile());
        assertEquals(7, result.get("train_windows").asInt());
        return result.get("fingerprint").get("data").asText();
    }
}
