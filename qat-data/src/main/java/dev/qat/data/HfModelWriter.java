package dev.qat.data;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * Writes a Hugging Face model directory that appears under its name only when it is whole.
 *
 * <p>Everything goes into a temporary folder beside the target; {@link #finish} renames it. Tensors are written in the
 * announced order, one in memory at a time, into one file or, past {@link Options#maxShardBytes}, into shards with an index.
 */
public final class HfModelWriter implements AutoCloseable {
    /**
     * @param replace       whether an existing model directory may be replaced
     * @param maxShardBytes most bytes of tensors in one file; a single larger tensor gets a file of its own
     * @param notes         texts for every file's {@code __metadata__}
     */
    public record Options(boolean replace, long maxShardBytes, Map<String, String> notes) {
        /** A new directory, shards of 5 GB as transformers writes them, no notes. */
        public static final Options DEFAULT = new Options(false, 5_000_000_000L, Map.of());
    }

    private static final List<String> TOKENIZER_FILES = List.of("tokenizer.json", "tokenizer_config.json",
            "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt",
            "chat_template.jinja", "generation_config.json");

    private final Path target, temporary;
    private final JsonNode config;
    private final Options options;
    private final List<List<Slot>> shards;
    private int shard, slot; // the next tensor is shards[shard][slot]
    private SafetensorsWriter file;
    private boolean finished;

    private HfModelWriter(Path target, JsonNode config, List<Slot> slots, Options options) {
        this.target = target;
        this.temporary = AtomicFile.temporarySibling(target);
        this.config = config;
        this.options = options;
        this.shards = split(slots, options.maxShardBytes);
    }

    public static HfModelWriter open(Path target, JsonNode config, List<Slot> slots, Options options) {
        Path whole = target.toAbsolutePath().normalize();
        refuseOccupied(whole, options.replace);
        HfModelWriter writer = new HfModelWriter(whole, config, slots, options);
        try {
            Files.createDirectories(whole.getParent());
            Files.createDirectory(writer.temporary);
            return writer;
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot create the model directory: %s; choose a folder you may write to", target, AtomicFile.why(e));
        }
    }

    /** Writes the next tensor's bytes as they are. */
    public void write(String name, MemorySegment bytes) {
        nextFile().write(name, bytes);
        advance();
    }

    /** Writes the next tensor from fp32, rounded to the dtype it was announced with. */
    public void writeFloats(String name, MemorySegment floats) {
        nextFile().writeFloats(name, floats);
        advance();
    }

    /** Writes a further text file, such as quantize_config.json. */
    public void text(String name, String content) {
        AtomicFile.write(file(name), content);
    }

    /** Where a further file goes that the caller writes himself before {@link #finish}. */
    public Path file(String name) {
        return temporary.resolve(name);
    }

    /** Copies the tokenizer and generation files that {@code source} has; returns their names. */
    public List<String> copyTokenizer(Path source) {
        return copyTokenizer(source, temporary);
    }

    /** The same into any directory. */
    public static List<String> copyTokenizer(Path source, Path to) {
        List<String> copied = new ArrayList<>();
        for (String name : TOKENIZER_FILES) {
            Path from = source.resolve(name);
            if (!Files.isRegularFile(from)) continue;
            try {
                AtomicFile.write(to.resolve(name), Files.readAllBytes(from));
            } catch (IOException e) {
                throw Fail.io(e, "%s: cannot read: %s; check its permissions", from, AtomicFile.why(e));
            }
            copied.add(name);
        }
        return copied;
    }

    /** Writes index and config and gives the directory its name; every announced tensor must have been written. */
    public void finish() {
        Fail.unless(shard == shards.size(), "%s: tensor %s was announced but never written", target,
                shard < shards.size() ? shards.get(shard).get(slot).name() : "");
        if (shards.size() > 1) text(HfModelDir.INDEX, Json.pretty(index()));
        text("config.json", Json.pretty(config));
        refuseOccupied(target, options.replace);
        try {
            takeName();
            finished = true;
            AtomicFile.syncFolder(target.getParent());
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot give the finished model its name: %s", target, AtomicFile.why(e));
        }
    }

    @Override
    public void close() {
        if (file != null) file.close();
        if (!finished) deleteTree(temporary);
    }

    /**
     * A directory cannot be renamed onto a full one, so an old model steps aside first and is deleted last; if the new one
     * cannot take the name, the old one gets it back.
     */
    private void takeName() throws IOException {
        if (isVacant(target)) {
            Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
            return;
        }
        Path aside = AtomicFile.temporarySibling(target);
        Files.move(target, aside, StandardCopyOption.ATOMIC_MOVE);
        try {
            Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            Files.move(aside, target, StandardCopyOption.ATOMIC_MOVE);
            throw e;
        }
        deleteTree(aside);
    }

    /** Fails where a model could not take this name, so that a long run can ask before it begins. */
    public static void refuseOccupied(Path target, boolean replace) {
        if (isVacant(target)) return;
        if (!Files.isDirectory(target)) throw Fail.usage("%s: is a file, expected a new directory for the model; choose another name", target);
        if (!replace) {
            throw Fail.usage("%s: already exists and is not empty; choose another directory or allow replacing it", target);
        }
        // Replacing deletes: a mistyped path must not cost anybody their home folder.
        if (!Files.isRegularFile(target.resolve("config.json"))) {
            throw Fail.usage("%s: holds no config.json, so it is no model and is not replaced; choose another directory", target);
        }
    }

    private static boolean isVacant(Path target) {
        if (!Files.isDirectory(target)) return !Files.exists(target);
        try (Stream<Path> inside = Files.list(target)) {
            return inside.findAny().isEmpty();
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot list: %s; choose another directory", target, AtomicFile.why(e));
        }
    }

    private SafetensorsWriter nextFile() {
        Fail.unless(shard < shards.size(), "%s: more tensors are written than announced", target);
        if (file == null) file = SafetensorsWriter.open(temporary.resolve(fileName(shard)), shards.get(shard), options.notes);
        return file;
    }

    private void advance() {
        if (++slot < shards.get(shard).size()) return;
        file.finish();
        file = null;
        slot = 0;
        shard++;
    }

    private String fileName(int i) {
        return shards.size() == 1 ? HfModelDir.SINGLE : "model-%05d-of-%05d.safetensors".formatted(i + 1, shards.size());
    }

    private ObjectNode index() {
        ObjectNode root = Json.MAPPER.createObjectNode();
        ObjectNode metadata = root.putObject("metadata"), map = root.putObject("weight_map");
        long total = 0;
        for (int i = 0; i < shards.size(); i++) {
            for (Slot s : shards.get(i)) {
                total += s.bytes();
                map.put(s.name(), fileName(i));
            }
        }
        metadata.put("total_size", total);
        return root;
    }

    /** Fills shards in order, each up to the limit; every shard holds at least one tensor. */
    private static List<List<Slot>> split(List<Slot> slots, long most) {
        Fail.unless(!slots.isEmpty(), "a model without tensors cannot be written");
        List<List<Slot>> shards = new ArrayList<>();
        long used = 0;
        for (Slot s : slots) {
            if (shards.isEmpty() || used + s.bytes() > most) {
                shards.add(new ArrayList<>());
                used = 0;
            }
            shards.getLast().add(s);
            used += s.bytes();
        }
        return shards;
    }

    private static void deleteTree(Path root) {
        if (!Files.exists(root)) return;
        try (Stream<Path> inside = Files.walk(root)) {
            for (Path p : inside.sorted((a, b) -> b.compareTo(a)).toList()) Files.delete(p);
        } catch (IOException e) {
            System.err.println("qat: could not remove " + root + ": " + AtomicFile.why(e));
        }
    }
}
