package dev.qat.train;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.Sha256;
import dev.qat.tensor.Fail;
import dev.qat.watch.Row;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * The checkpoints of a run on disk: safetensors files, and numbered manifests {@code 00000007.json} that name the files by size
 * and SHA-256. A checkpoint exists from the moment its manifest has its name; a file that no kept manifest names is removed.
 */
final class Checkpoints {
    /** A file of the folder as it must be found again. */
    record Stored(String name, long bytes, String sha256) {}

    /** A loop that is done: a driver's loop over steps, in the order of the run; {@code file} holds what it trained. */
    record Unit(String stage, int block, long steps, double first, double last, Stored file) {}

    /**
     * Where in the loop after the finished ones a checkpoint was taken.
     *
     * @param adam    steps the optimizer took  @param attempt how often the loop was begun again at a lower rate
     * @param file    values and moments  @param chains what the block-wise driver keeps on the host, by name
     */
    record Place(String stage, int block, long step, long steps, long adam, int attempt, double first, double last, Stored file, Map<String, Stored> chains) {}

    /**
     * All that a run needs to go on.
     *
     * @param fingerprint what must be the same  @param environment what should be, for the same bytes
     * @param place       null between two loops  @param metrics bytes of metrics.jsonl that belong to it
     * @param seconds     of work so far  @param stageSeconds of them in the stage at work
     */
    record Manifest(int version, Map<String, String> fingerprint, Map<String, String> environment, List<Unit> finished, Place place,
                    List<Row> rows, long metrics, double seconds, double stageSeconds, String written) {
        List<Stored> files() {
            List<Stored> all = new ArrayList<>(finished.stream().map(Unit::file).toList());
            if (place != null) {
                all.add(place.file);
                all.addAll(place.chains.values());
            }
            return all;
        }
    }

    /** A tensor to store: its place in the file, and its bytes. */
    record Piece(Slot slot, MemorySegment bytes) {}

    static final int VERSION = 1;
    private static final int READ = 4 << 20;
    private static final JsonMapper JSON = JsonMapper.builder().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS).build();

    private final Path folder;
    private final int keep;
    private int next;
    private boolean created;

    Checkpoints(Path folder, int keep) {
        this.folder = folder;
        this.keep = keep;
        this.next = manifests().stream().mapToInt(Checkpoints::number).max().orElse(0) + 1;
    }

    Path folder() {
        return folder;
    }

    /** Writes a file of the folder; it is durable when this returns. A later checkpoint's file of the same kind has another name. */
    Stored write(String kind, List<Piece> pieces) {
        create();
        Path file = folder.resolve("%s-%08d.safetensors".formatted(kind, next));
        try (SafetensorsWriter out = SafetensorsWriter.open(file, pieces.stream().map(Piece::slot).toList(), Map.of())) {
            for (Piece p : pieces) out.write(p.slot.name(), p.bytes);
            out.finish();
        }
        return stored(file);
    }

    /** Once: a folder that vanishes later takes with it what a new checkpoint would name. */
    private void create() {
        if (created) return;
        RunFiles.make(folder);
        created = true;
    }

    /** Read, not mapped: a disk that fails under a mapping ends the process without a word. */
    private static Stored stored(Path file) {
        ByteBuffer some = ByteBuffer.allocateDirect(READ);
        Sha256 sum = new Sha256();
        long bytes = 0;
        try (FileChannel channel = FileChannel.open(file)) {
            while (channel.read(some.clear()) >= 0) {
                sum.add(MemorySegment.ofBuffer(some.flip()));
                bytes += some.limit();
            }
            return new Stored(file.getFileName().toString(), bytes, sum.hex());
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    /** Makes a checkpoint of files that are written; then removes what only older ones needed. Returns its number. */
    int commit(Manifest manifest) {
        create();
        int number = next++;
        JsonNode body = JSON.valueToTree(manifest);
        ObjectNode whole = JSON.createObjectNode().put("sha256", sum(body));
        whole.set("checkpoint", body);
        AtomicFile.write(folder.resolve("%08d.json".formatted(number)), whole.toPrettyString() + "\n");
        prune();
        return number;
    }

    private static String sum(JsonNode body) {
        return new Sha256().add(body.toString()).hex();
    }

    /** Keeps the newest manifests and the files they name. */
    private void prune() {
        List<Path> all = manifests();
        Set<String> needed = new HashSet<>();
        for (Path m : all.subList(0, Math.min(keep, all.size()))) {
            needed.add(m.getFileName().toString());
            try {
                for (Stored s : read(m).files()) needed.add(s.name);
            } catch (Fail damaged) {
                setAside(m);
            }
        }
        try (Stream<Path> files = Files.list(folder)) {
            for (Path f : files.filter(Checkpoints::ours).filter(f -> !needed.contains(f.getFileName().toString())).toList()) Files.deleteIfExists(f);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot remove old checkpoints: %s", folder, e);
        }
    }

    /** What lies in the folder beside checkpoints (sampled text) is not ours to remove. */
    private static boolean ours(Path file) {
        String name = file.getFileName().toString();
        return name.matches("(\\d{8}\\.json|(state|unit|chain)-.*\\.safetensors)(\\.damaged)?") || name.matches("\\.(\\d{8}\\.json|(state|unit|chain)-.*)\\.tmp");
    }

    /** Manifests, newest first. */
    private List<Path> manifests() {
        if (!Files.isDirectory(folder)) return List.of();
        try (Stream<Path> files = Files.list(folder)) {
            return files.filter(f -> f.getFileName().toString().matches("\\d{8}\\.json")).sorted(Comparator.comparingInt(Checkpoints::number).reversed()).collect(Collectors.toList());
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", folder, e);
        }
    }

    private static Fail unreadable(Path file, IOException e) {
        return Fail.io(e, "%s: cannot read: %s. Nothing was changed: run again when it can be read, or begin anew with checkpoint.resume=never.", file, e);
    }

    private static int number(Path manifest) {
        return Integer.parseInt(manifest.getFileName().toString().substring(0, 8));
    }

    private static Manifest read(Path file) {
        try {
            JsonNode whole = JSON.readTree(Files.readAllBytes(file)), body = whole.path("checkpoint");
            if (!whole.path("sha256").asText().equals(sum(body))) throw Fail.data("%s: its checksum does not fit", file);
            if (body.path("version").asInt() != VERSION) throw Fail.data("%s: version %s, expected %d", file, body.path("version"), VERSION);
            return JSON.treeToValue(body, Manifest.class);
        } catch (JsonProcessingException e) {
            throw Fail.data("%s: no valid JSON: %s", file, e.getOriginalMessage().lines().findFirst().orElse(""));
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    /** The newest manifest, its files unseen; empty where there is none that can be read. */
    Optional<Manifest> peek() {
        for (Path m : manifests()) {
            try {
                return Optional.of(read(m));
            } catch (Fail damaged) {
                // whoever resumes is told; here an older one will do
            }
        }
        return Optional.empty();
    }

    /** The newest checkpoint whose files are all whole; damaged ones are told of and stepped over, one that cannot be read ends the run. Empty where there is none at all. */
    Optional<Manifest> latest(Consumer<String> told) {
        List<String> damages = new ArrayList<>();
        for (Path m : manifests()) {
            try {
                Manifest manifest = read(m);
                for (Stored s : manifest.files()) check(s);
                if (!damages.isEmpty()) told.accept("going on from the checkpoint before it, " + m.getFileName());
                return Optional.of(manifest);
            } catch (Fail e) {
                if (e.code() == Fail.IO) throw e; // nobody knows whether it is damaged: no reason to lose what it holds
                damages.add(e.getMessage());
                told.accept("CHECKPOINT DAMAGED: " + e.getMessage());
                setAside(m);
            }
        }
        if (damages.isEmpty()) return Optional.empty();
        throw Fail.data("%s: no checkpoint is whole (%s). checkpoint.resume=never starts the run again from its beginning.", folder, String.join("; ", damages));
    }

    private void check(Stored s) {
        Path file = folder.resolve(s.name);
        if (!Files.isRegularFile(file)) throw Fail.data("%s is missing", file);
        Stored found = stored(file);
        if (found.bytes != s.bytes) throw Fail.data("%s has %,d bytes, expected %,d", file, found.bytes, s.bytes);
        if (!found.sha256.equals(s.sha256)) throw Fail.data("%s: its SHA-256 is %.12s…, expected %.12s…", file, found.sha256, s.sha256);
    }

    /** Out of the way, so that it neither counts as kept nor is found again. */
    private static void setAside(Path manifest) {
        try {
            Files.move(manifest, manifest.resolveSibling(manifest.getFileName() + ".damaged"));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot be set aside: %s", manifest, e);
        }
    }

    /** The tensors of a stored file. */
    Safetensors open(Stored s) {
        return Safetensors.open(folder.resolve(s.name));
    }

    /** Removes every checkpoint: the run is finished, or begins anew. */
    void clear() {
        if (!Files.isDirectory(folder)) return;
        try (Stream<Path> files = Files.list(folder)) {
            for (Path f : files.toList()) Files.deleteIfExists(f);
            Files.deleteIfExists(folder);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot remove: %s", folder, e);
        }
    }
}
