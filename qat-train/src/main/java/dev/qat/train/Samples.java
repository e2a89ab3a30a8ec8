package dev.qat.train;

import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.Sha256;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Sequences a model has said so far, in files beside the checkpoints, so that a run that ends while it samples need not begin
 * again: ids I32 (sequences, tokens), with the key of what they depend on and their SHA-256.
 */
record Samples(Path folder, boolean kept, String key, Stop stop, Consumer<String> told) {
    private Path file(int first) {
        return folder.resolve("samples-%08d.safetensors".formatted(first));
    }

    /** The sequences from number {@code first} on that were sampled before; an empty list where there are none to trust. */
    List<int[]> read(int first, int tokens) {
        List<int[]> rows = new ArrayList<>();
        if (!kept || !Files.isRegularFile(file(first))) return rows;
        try (Safetensors in = Safetensors.open(file(first))) {
            int[] ids = in.bytes("ids").toArray(ValueLayout.JAVA_INT_UNALIGNED);
            boolean whole = sum(ids).equals(in.metadata().get("sha256")), same = key(tokens).equals(in.metadata().get("key"));
            if (!whole) told.accept("DAMAGED: %s is not what was written; the text is sampled again".formatted(file(first)));
            if (whole && same) for (int at = 0; at < ids.length; at += tokens) rows.add(Arrays.copyOfRange(ids, at, at + tokens));
        } catch (Fail damaged) {
            told.accept("DAMAGED: " + damaged.getMessage() + "; the text is sampled again");
        }
        return rows;
    }

    /** Keeps the sequences; ends the run if that was asked for. */
    void write(int first, List<int[]> rows) {
        if (kept) {
            int tokens = rows.getFirst().length;
            int[] ids = rows.stream().flatMapToInt(Arrays::stream).toArray();
            RunFiles.make(folder);
            try (SafetensorsWriter out = SafetensorsWriter.open(file(first), List.of(new Slot("ids", StoredType.I32, rows.size(), tokens)), Map.of("key", key(tokens), "sha256", sum(ids)))) {
                out.write("ids", MemorySegment.ofArray(ids));
                out.finish();
            }
        }
        if (stop.wish() != null) throw Fail.again("%s after %d sampled sequences. Run the same command again to go on.", stop.wish(), rows.size());
    }

    private String key(int tokens) {
        return key + " " + tokens;
    }

    private static String sum(int[] ids) {
        Sha256 sum = new Sha256();
        for (int id : ids) sum.add(id);
        return sum.hex();
    }
}
