package dev.qat.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import dev.qat.data.HfModelDir;
import dev.qat.data.Sha256;
import dev.qat.data.Windows;
import dev.qat.eval.Perplexity;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.net.URISyntaxException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import java.util.zip.CRC32;

/**
 * What decides a run's result, as text by name: every key of the recipe that matters, and hashes of the model, of the windows and
 * of qat's own code. Two runs with one fingerprint, on one kind of machine, give the same bytes.
 */
final class Fingerprint {
    /** Keys of a recipe that say where a run lies, where it computes and what it tells, not what comes out; files are hashed instead. */
    private static final Set<String> INDIFFERENT = Set.of("name", "output", "backend", "eager", "threads", "checkpoint", "observe");
    private static final Map<String, String> FILES = Map.of("model", "path", "data", "files", "eval", "files");
    /** Of a weight file the first of every so many bytes is hashed: training changes all of them. */
    private static final long STRIDE = 64L << 20, SAMPLE = 1 << 20;

    private Fingerprint() {}

    /** Recipe, model and code; the windows' hash is added once they are there. */
    static Map<String, String> of(Recipe recipe, String rendered, Start start, String version) {
        Map<String, String> all = new LinkedHashMap<>();
        all.put("qat", version + " " + code());
        all.put("model", model(start.files(), recipe.model().init() == Recipe.Init.LOAD));
        flatten("recipe", keys(rendered), all);
        return all;
    }

    /** All of it as one hash. */
    static String key(Map<String, String> fingerprint) {
        Sha256 all = new Sha256();
        fingerprint.forEach((name, value) -> all.add(name).add(value));
        return all.hex();
    }

    private static JsonNode keys(String rendered) {
        try {
            JsonNode root = new YAMLMapper().readTree(rendered);
            if (!(root instanceof ObjectNode recipe)) return root;
            recipe.remove(INDIFFERENT);
            FILES.forEach((where, key) -> {
                if (recipe.path(where) instanceof ObjectNode o) o.remove(key);
            });
            return recipe;
        } catch (IOException e) {
            throw Fail.internal("the resolved recipe is no YAML: %s", e.getMessage());
        }
    }

    private static void flatten(String at, JsonNode node, Map<String, String> all) {
        if (node.isObject()) node.properties().forEach(e -> flatten(at + "." + e.getKey(), e.getValue(), all));
        else if (node.isArray()) for (int i = 0; i < node.size(); i++) flatten(at + "[" + i + "]", node.get(i), all);
        else if (!node.isMissingNode()) all.put(at, node.asText());
    }

    /** Config and tokenizer whole; of each weight file its size, its beginning and a share of the rest. */
    private static String model(List<Path> files, boolean weights) {
        Sha256 sum = new Sha256();
        try (Arena arena = Arena.ofShared()) {
            for (Path f : files) {
                String name = f.getFileName().toString();
                boolean stored = !name.endsWith(".json");
                if (stored && !weights) continue;
                try (FileChannel channel = FileChannel.open(f)) {
                    MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
                    sum.add(name).add(all.byteSize());
                    for (long at = 0; at < all.byteSize(); at += stored ? STRIDE : SAMPLE) sum.add(all.asSlice(at, Math.min(SAMPLE, all.byteSize() - at)));
                }
            }
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read the model: %s", files.getFirst().getParent(), e);
        }
        return sum.hex();
    }

    static String windows(Windows train, Windows heldOut) {
        Sha256 sum = new Sha256();
        for (Windows w : List.of(train, heldOut)) {
            sum.add(w.length()).add(w.ids().length).add(w.starts().length);
            for (int[] part : List.of(w.ids(), w.starts())) {
                try (Arena arena = Arena.ofShared()) {
                    sum.add(arena.allocate(4L * Math.max(1, part.length), 8).copyFrom(MemorySegment.ofArray(part)));
                }
            }
        }
        return sum.hex();
    }

    /** Names and checksums of qat's own classes and kernels, whether they lie in jars or in folders. */
    private static String code() {
        Set<Path> places = new LinkedHashSet<>();
        for (Class<?> c : List.of(Fail.class, HfModelDir.class, Perplexity.class, Fingerprint.class)) {
            try {
                places.add(Path.of(c.getProtectionDomain().getCodeSource().getLocation().toURI()));
            } catch (URISyntaxException e) {
                throw Fail.internal("the code of %s has no place: %s", c, e.getMessage());
            }
        }
        Map<String, Long> parts = new TreeMap<>();
        for (Path p : places) if (Files.isDirectory(p)) folder(p, parts); else jar(p, parts);
        Sha256 sum = new Sha256();
        parts.forEach((name, crc) -> sum.add(name).add(crc));
        return sum.hex().substring(0, 16);
    }

    private static boolean ours(String name) {
        return name.startsWith("dev/qat/") && name.endsWith(".class") || name.startsWith("kernels/");
    }

    private static void jar(Path file, Map<String, Long> parts) {
        try (JarFile jar = new JarFile(file.toFile())) {
            jar.stream().filter(e -> !e.isDirectory() && ours(e.getName())).forEach(e -> parts.put(e.getName(), e.getCrc()));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read qat's own code: %s", file, e);
        }
    }

    private static void folder(Path folder, Map<String, Long> parts) {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path f : files.filter(Files::isRegularFile).toList()) {
                String name = folder.relativize(f).toString().replace('\\', '/');
                if (!ours(name)) continue;
                CRC32 crc = new CRC32();
                crc.update(Files.readAllBytes(f));
                parts.put(name, crc.getValue());
            }
        } catch (IOException | UncheckedIOException e) {
            throw Fail.io(e, "%s: cannot read qat's own code: %s", folder, e);
        }
    }

    /** One line for each name whose value differs: {@code recipe.stages[0].epochs: 2 then, 3 now}. */
    static List<String> differences(Map<String, String> then, Map<String, String> now) {
        Set<String> names = new LinkedHashSet<>(then.keySet());
        names.addAll(now.keySet());
        List<String> lines = new ArrayList<>();
        for (String n : names) {
            String a = then.getOrDefault(n, "absent"), b = now.getOrDefault(n, "absent");
            if (!a.equals(b)) lines.add("%s: %.40s then, %.40s now".formatted(n.replaceFirst("^recipe\\.", ""), a, b));
        }
        return lines;
    }
}
