package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Writes a Hugging Face directory of plain fp32 weights, the quantized ones on their lattice: any program can run it, but for what only this engine follows (rotations, rounded activations). */
final class PlainOut implements Exporter {
    private final long maxShardBytes;

    PlainOut(long maxShardBytes) {
        this.maxShardBytes = maxShardBytes;
    }

    @Override
    public boolean directory() {
        return true;
    }

    @Override
    public Report write(Path path, Frozen model) {
        List<Slot> slots = new ArrayList<>();
        List<Report.Stored> stored = new ArrayList<>();
        model.shapes().forEach((name, shape) -> {
            Slot s = new Slot(name, StoredType.F32, shape);
            slots.add(s);
            stored.add(new Report.Stored(name, "F32", s.count(), s.bytes()));
        });
        ObjectNode config = model.configJson().put("torch_dtype", "float32").put("tie_word_embeddings", model.config().tied());
        var options = new HfModelWriter.Options(true, maxShardBytes, model.notes());
        try (HfModelWriter out = HfModelWriter.open(path, config, slots, options)) {
            for (Slot s : slots) {
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment floats = arena.allocate(s.bytes(), 64);
                    model.read(s.name(), floats);
                    out.write(s.name(), floats);
                }
            }
            model.tokenizer().ifPresent(out::copyTokenizer);
            out.finish();
        }
        return new Report("hf", path, slots.stream().mapToLong(Slot::bytes).sum(), 32, 0, 0, null, stored, Configs.rounding(config, true));
    }
}
