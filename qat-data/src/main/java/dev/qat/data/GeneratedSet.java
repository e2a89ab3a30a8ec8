package dev.qat.data;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Stream;

/**
 * A generated set on disk: a folder of token shards and, for each part of it that a machine made, a manifest that lists them.
 *
 * <p>Every sequence stands in its shard behind a separator (BOS, or EOS where a model has no BOS). A shard appears whole, then
 * its line in the manifest; until then a hidden file keeps where it stands, and what a killed run left goes on from there to the
 * same bytes. Parts know nothing of each
 * other: merging them is listing their folders, or letting them write into one.
 */
public final class GeneratedSet {
    /** Part {@code index} of {@code of}: every of-th shard. */
    public record Part(int index, int of) {
        public static final Part WHOLE = new Part(0, 1);

        public Part {
            if (of < 1 || index < 0 || index >= of) throw Fail.usage("part %d/%d, expected i/n with 0 ≤ i < n", index, of);
        }

        public static Part parse(String text) {
            if (!text.matches("\\d{1,6}/\\d{1,6}")) throw Fail.usage("part %s, expected i/n with 0 ≤ i < n, such as 0/4", text);
            int slash = text.indexOf('/');
            return new Part(Integer.parseInt(text.substring(0, slash)), Integer.parseInt(text.substring(slash + 1)));
        }

        String manifest() {
            return "manifest-%d-of-%d.json".formatted(index, of);
        }
    }

    /** A finished shard: so many sequences were made, so many kept, with so many tokens, separators included. */
    public record Shard(String file, int sequences, int kept, long tokens, String sha256) {}

    private static final String FORMAT = "qat generated tokens 1", MANIFEST = "manifest-\\d+-of-\\d+\\.json";

    private final Path folder;
    private final Part part;
    private final ObjectNode settings;
    private final Vocabulary vocabulary;
    private final Map<Integer, Shard> shards = new TreeMap<>();

    private GeneratedSet(Path folder, Part part, ObjectNode settings, Vocabulary vocabulary) {
        this.folder = folder;
        this.part = part;
        this.settings = settings;
        this.vocabulary = vocabulary;
    }

    /** Opens a part for writing, with what earlier runs of the same settings finished; another set in the folder is refused. */
    public static GeneratedSet open(Path folder, Part part, Map<String, Object> settings, Vocabulary vocabulary) {
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot create the folder: %s; choose another", folder, AtomicFile.why(e));
        }
        GeneratedSet set = new GeneratedSet(folder, part, Json.MAPPER.valueToTree(settings), vocabulary);
        for (Path other : manifests(folder)) set.refuseOther(Json.object(other), other);
        Path file = folder.resolve(part.manifest());
        if (Files.exists(file)) set.resume(Json.object(file));
        set.clean();
        return set;
    }

    private void refuseOther(JsonNode manifest, Path file) {
        // read back from text, so that numbers compare as they are written
        JsonNode mine = Json.object(file, Json.pretty(settings).getBytes(java.nio.charset.StandardCharsets.UTF_8)), theirs = manifest.path("settings");
        if (theirs.equals(mine)) return;
        List<String> differ = new ArrayList<>();
        mine.fieldNames().forEachRemaining(k -> {
            if (!mine.get(k).equals(theirs.get(k))) differ.add("%s = %s, now %s".formatted(k, theirs.get(k), mine.get(k)));
        });
        throw Fail.data("%s: this folder holds another set (%s). Choose another name or output, or remove the folder.", file, String.join("; ", differ));
    }

    private void resume(JsonNode manifest) {
        for (JsonNode s : manifest.path("shards")) {
            Shard shard = new Shard(s.path("file").asText(), s.path("sequences").asInt(), s.path("kept").asInt(), s.path("tokens").asLong(), s.path("sha256").asText());
            if (Files.exists(folder.resolve(shard.file))) shards.put(number(shard.file), shard);
        }
    }

    /** Removes what a killed run of this part left half-written, and where shards stood that are finished. */
    private void clean() {
        try (Stream<Path> inside = Files.list(folder)) {
            for (Path p : inside.filter(p -> p.getFileName().toString().matches("\\.{0,2}(tokens-\\d{5}\\.(bin|begun)|" + MANIFEST + ")\\..*\\.tmp")).toList()) {
                String name = p.getFileName().toString();
                int tokens = name.indexOf("tokens-");
                if (name.startsWith("." + part.manifest()) || tokens >= 0 && number(name.substring(tokens)) % part.of == part.index) Files.deleteIfExists(p);
            }
            for (int s : shards.keySet()) Files.deleteIfExists(begun(s));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot clean up: %s; check its permissions", folder, AtomicFile.why(e));
        }
    }

    private static int number(String file) {
        return Integer.parseInt(file.substring("tokens-".length(), "tokens-".length() + 5));
    }

    /** The file that says where a shard stands while it is made. */
    private Path begun(int shard) {
        return folder.resolve(".tokens-%05d.begun".formatted(shard));
    }

    private String settingsHash() {
        return new Sha256().add(Json.pretty(settings)).hex();
    }

    /** Where a shard stood when the run that made it ended; empty where that is not known for sure. */
    public Optional<Standing> standing(int shard) {
        try {
            return Standing.read(begun(shard), settingsHash(), shard);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s; check its permissions", begun(shard), AtomicFile.why(e));
        }
    }

    /** Keeps where a shard stands, so that a run that is killed loses no more than the batch in flight. */
    public void keep(Standing standing) {
        standing.write(begun(standing.shard()), settingsHash());
    }

    /** The shards of this part that are still to be made, of a set of so many. */
    public List<Integer> missing(int all) {
        List<Integer> missing = new ArrayList<>();
        for (int s = part.index; s < all; s += part.of) if (!shards.containsKey(s)) missing.add(s);
        return missing;
    }

    /** Writes a shard and lists it. */
    public void add(int shard, int[][] sequences, int separator, Repetition.Limits limits) {
        int kept = 0;
        long tokens = 0;
        Path file;
        try (TokenShards.Writer out = TokenShards.Writer.at(folder, vocabulary, shard)) {
            for (int[] s : sequences) {
                if (!limits.keep(s)) continue;
                out.append(new int[] {separator});
                out.append(s);
                kept++;
                tokens += s.length + 1;
            }
            file = out.finish();
        }
        shards.put(shard, new Shard(file.getFileName().toString(), sequences.length, kept, tokens, sha256(file)));
        list();
        try {
            Files.deleteIfExists(begun(shard));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot remove: %s; check its permissions", begun(shard), AtomicFile.why(e));
        }
    }

    /** Writes the manifest, also of a part that has no shards. */
    public void list() {
        ObjectNode manifest = Json.MAPPER.createObjectNode().put("format", FORMAT).put("part", part.index + "/" + part.of);
        manifest.set("settings", settings);
        ArrayNode list = manifest.putArray("shards");
        shards.values().forEach(s -> list.add(Json.MAPPER.<JsonNode>valueToTree(s)));
        AtomicFile.write(folder.resolve(part.manifest()), Json.pretty(manifest));
    }

    public List<Shard> shards() {
        return List.copyOf(shards.values());
    }

    private static List<Path> manifests(Path folder) {
        try (Stream<Path> inside = Files.list(folder)) {
            return inside.filter(p -> p.getFileName().toString().matches(MANIFEST)).sorted().toList();
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot list: %s; check its permissions", folder, AtomicFile.why(e));
        }
    }

    /** The shards that the manifests of these folders list, in order of their numbers folder by folder; a listed one that is missing or changed is refused. */
    private static List<Path> listed(List<Path> folders) {
        List<Path> files = new ArrayList<>();
        for (Path folder : folders) {
            if (!Files.isDirectory(folder)) throw Fail.data("%s: no such folder; 'qat generate' makes one", folder);
            Map<String, JsonNode> shards = new TreeMap<>();
            for (Path m : manifests(folder)) for (JsonNode s : Json.object(m).path("shards")) shards.put(s.path("file").asText(), s);
            if (shards.isEmpty()) throw Fail.data("%s: no manifest-i-of-n.json there lists a token shard; 'qat generate' makes them", folder);
            shards.forEach((name, s) -> {
                Path file = folder.resolve(name);
                if (!Files.exists(file)) throw Fail.data("%s: listed in the manifest, but not there; run 'qat generate' again", file);
                if (!sha256(file).equals(s.path("sha256").asText())) throw Fail.data("%s: its bytes are not those the manifest lists; remove it and run 'qat generate' again", file);
                files.add(file);
            });
        }
        return files;
    }

    /** All tokens of the sets in these folders, each sequence behind its separator. */
    public static int[] stream(List<Path> folders, Vocabulary vocabulary) {
        try (TokenShards tokens = TokenShards.open(listed(folders), vocabulary)) {
            if (tokens.count() > Integer.MAX_VALUE - 8) throw Fail.data("%s: %d tokens, more than fit one run; give fewer folders", folders, tokens.count());
            int[] ids = new int[(int) tokens.count()];
            tokens.read(ids, 0, ids.length, 0);
            return ids;
        }
    }

    /** This part's sequences, without separators. */
    public List<int[]> sequences(int separator) {
        List<Path> files = shards.values().stream().map(s -> folder.resolve(s.file)).toList();
        try (TokenShards tokens = TokenShards.open(files, vocabulary)) {
            int[] ids = new int[Math.toIntExact(tokens.count())];
            tokens.read(ids, 0, ids.length, 0);
            return sequences(ids, separator).stream().map(s -> java.util.Arrays.copyOfRange(s, 1, s.length)).filter(s -> s.length > 0).toList();
        }
    }

    /** A stream cut before every separator; the separators stay. */
    public static List<int[]> sequences(int[] stream, int separator) {
        List<int[]> all = new ArrayList<>();
        for (int at = 0, end; at < stream.length; at = end) {
            end = at + 1;
            while (end < stream.length && stream[end] != separator) end++;
            all.add(java.util.Arrays.copyOfRange(stream, at, end));
        }
        return all;
    }

    private static String sha256(Path file) {
        try (FileChannel channel = FileChannel.open(file); Arena arena = Arena.ofConfined()) {
            return new Sha256().add(channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena)).hex();
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s; check its permissions", file, AtomicFile.why(e));
        }
    }

    /** What a manifest holds fixed: another value of any of these is another set. */
    public static Map<String, Object> settings(Generation g, Repetition.Limits limits, long seed, String model, Vocabulary vocabulary) {
        Map<String, Object> s = new LinkedHashMap<>();
        s.put("generate", g);
        s.put("keep", limits);
        s.put("seed", seed);
        s.put("model", model);
        s.put("tokenizer", vocabulary.tokenizerSha256());
        s.put("vocabulary", vocabulary.size());
        return s;
    }
}
