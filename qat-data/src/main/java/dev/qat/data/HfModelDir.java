package dev.qat.data;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A Hugging Face model directory, opened for reading: config.json and the weights of {@code model.safetensors} or of the
 * shards that {@code model.safetensors.index.json} lists.
 *
 * <p>Opening checks the config, every shard's header and that each listed tensor is where the index says; no weight is read
 * before {@link #read} asks for it.
 */
public final class HfModelDir implements AutoCloseable {
    static final String SINGLE = "model.safetensors", INDEX = "model.safetensors.index.json";

    private final Path dir;
    private final JsonNode config;
    private final SpecialIds specialIds;
    private final Map<String, Safetensors> shards = new LinkedHashMap<>(); // by file name
    private final Map<String, Safetensors> home = new LinkedHashMap<>(); // by tensor name
    private String fingerprint;

    private HfModelDir(Path dir) {
        this.dir = dir;
        this.config = readConfig(dir);
        this.specialIds = SpecialIds.of(dir);
    }

    public static HfModelDir open(Path dir) {
        if (!Files.isDirectory(dir)) {
            throw Fail.data("%s: no such model directory; give the folder that holds config.json and model.safetensors", dir);
        }
        HfModelDir model = new HfModelDir(dir);
        try {
            if (Files.exists(dir.resolve(SINGLE))) model.addSingle();
            else if (Files.exists(dir.resolve(INDEX))) model.addIndexed();
            else throw noWeights(dir);
            return model;
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
    }

    /** Opens a directory for what it says about a model: config, tokenizer, special ids. It may have no weights yet. */
    public static HfModelDir describe(Path dir) {
        if (!Files.isDirectory(dir)) {
            throw Fail.data("%s: no such model directory; give the folder that holds config.json", dir);
        }
        return new HfModelDir(dir);
    }

    private static JsonNode readConfig(Path dir) {
        Path file = dir.resolve("config.json");
        if (!Files.isRegularFile(file)) {
            throw Fail.data("%s: the model directory has no config.json; copy it from where the weights came from", dir);
        }
        return Json.object(file);
    }

    private static Fail noWeights(Path dir) {
        boolean pickled = Files.exists(dir.resolve("pytorch_model.bin")) || Files.exists(dir.resolve("pytorch_model.bin.index.json"));
        return Fail.data("%s: the model directory has no weights, expected %s or %s%s", dir, SINGLE, INDEX, pickled
                ? "; pytorch_model.bin is not read: save the model again with save_pretrained(dir, safe_serialization=True)"
                : "; download the weights into it");
    }

    private void addSingle() {
        Safetensors file = openShard(SINGLE);
        for (String name : file.names()) home.put(name, file);
    }

    private void addIndexed() {
        Path index = dir.resolve(INDEX);
        JsonNode map = Json.object(index).path("weight_map");
        if (!map.isObject() || map.isEmpty()) {
            throw Fail.data("%s: has no weight_map; download the index again", index);
        }
        for (Map.Entry<String, JsonNode> e : map.properties()) {
            Safetensors shard = openShard(plainName(index, e.getValue().asText("")));
            if (!shard.has(e.getKey())) {
                throw Fail.data("%s: tensor %s should be in this shard by %s but is not; download both again", shard.file(), e.getKey(), INDEX);
            }
            home.put(e.getKey(), shard);
        }
    }

    /** An index may only name files beside itself: anything that could lead out of the directory is refused. */
    private static String plainName(Path index, String name) {
        boolean plain = name.endsWith(".safetensors") && name.chars().noneMatch(c -> c == '/' || c == '\\' || c == ':' || c < ' ');
        if (plain) return name;
        throw Fail.data("%s: names the shard '%s', expected the plain name of a .safetensors file in the same directory; "
                + "do not trust this model until you know why", index, name);
    }

    private Safetensors openShard(String name) {
        Safetensors known = shards.get(name);
        if (known != null) return known;
        Path file = dir.resolve(name);
        if (!Files.exists(file)) {
            throw Fail.data("%s: the shard is missing although %s lists it; download it into the directory", file, INDEX);
        }
        Safetensors shard = Safetensors.open(file);
        shards.put(name, shard);
        return shard;
    }

    public Path dir() {
        return dir;
    }

    public JsonNode config() {
        return config;
    }

    /** The ids that begin and end a text, by generation_config.json and config.json. */
    public SpecialIds specialIds() {
        return specialIds;
    }

    public List<String> names() {
        return List.copyOf(home.keySet());
    }

    public boolean has(String name) {
        return home.containsKey(name);
    }

    public Safetensors.Entry entry(String name) {
        return shardOf(name).entry(name);
    }

    public long[] shape(String name) {
        return entry(name).shape();
    }

    /** Fails with a sentence unless the tensor exists with exactly this shape. */
    public void expect(String name, long... shape) {
        long[] got = shape(name);
        if (!Arrays.equals(got, shape)) {
            throw Fail.data("%s: tensor %s has shape %s, expected %s from config.json; config and weights belong to different models",
                    shardOf(name).file(), name, Arrays.toString(got), Arrays.toString(shape));
        }
    }

    /** floats = fp32(tensor).   floats (count), exactly. */
    public void read(String name, MemorySegment floats) {
        shardOf(name).read(name, floats);
    }

    /** The same for the elements from {@code first} on.   floats (n), n ≤ count − first */
    public void read(String name, long first, MemorySegment floats) {
        shardOf(name).read(name, first, floats);
    }

    /** The stored bytes of a tensor of any dtype; valid until {@link #close}. */
    public MemorySegment bytes(String name) {
        return shardOf(name).bytes(name);
    }

    /**
     * SHA-256 over every tensor's name, dtype, shape and bytes, in order of name: the same for one file or many shards.
     * Reads all weights the first time.
     */
    public synchronized String fingerprint() {
        if (fingerprint == null) {
            Sha256 sha = new Sha256();
            List<String> sorted = new ArrayList<>(home.keySet());
            sorted.sort(null);
            for (String name : sorted) {
                long[] shape = shape(name);
                sha.add(name).add(entry(name).dtype().name()).add(shape.length);
                for (long d : shape) sha.add(d);
                sha.add(bytes(name));
            }
            fingerprint = sha.hex();
        }
        return fingerprint;
    }

    private Safetensors shardOf(String name) {
        Safetensors shard = home.get(name);
        if (shard == null) {
            throw Fail.data("%s: the weights have no tensor %s (they have %d, such as %s); check model_type in config.json",
                    dir, name, home.size(), home.keySet().stream().findFirst().orElse("none"));
        }
        return shard;
    }

    @Override
    public void close() {
        shards.values().forEach(Safetensors::close);
    }
}
