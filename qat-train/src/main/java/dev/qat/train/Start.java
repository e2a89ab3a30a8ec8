package dev.qat.train;

import dev.qat.data.HfModelDir;
import dev.qat.export.PackedIn;
import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;

/**
 * What a run starts from: a directory of plain weights, or one that somebody packed (GPTQ, AWQ, compressed-tensors), whose codes
 * are in use from the beginning and whose steps can train.
 */
final class Start implements AutoCloseable {
    private final HfModelDir dir;
    private final PackedIn packed; // null where weights are plain

    private Start(HfModelDir dir, PackedIn packed) {
        this.dir = dir;
        this.packed = packed;
    }

    /** @param weights whether plain weights must be there; packed ones must in any case, since their headers say what they are */
    static Start open(Path path, boolean weights) {
        try (HfModelDir known = HfModelDir.describe(path)) {
            if (PackedIn.isPacked(known)) {
                PackedIn packed = PackedIn.open(path);
                return new Start(packed.dir(), packed);
            }
        }
        return new Start(weights ? HfModelDir.open(path) : HfModelDir.describe(path), null);
    }

    HfModelDir dir() {
        return dir;
    }

    ModelConfig config() {
        return packed != null ? packed.config() : ModelConfig.of(dir.config(), dir.dir().resolve("config.json").toString());
    }

    /** A model whose blocks come from here when they are wanted. */
    Model model(Memory memory, DType frozen) {
        return packed == null ? Model.open(dir, memory, frozen) : Model.open(packed.config(), packed.source(), memory, frozen);
    }

    /** Puts the codes that are there already to use in the student. */
    void codes(Run run) {
        if (packed == null) return;
        Set<String> quantized = Set.copyOf(packed.quantized());
        try (Packing packing = new Packing(run)) {
            for (Block block : run.student().blocks()) {
                List<Linear> coded = block.linears().stream().filter(l -> quantized.contains(l.name)).toList();
                coded.forEach(l -> packing.adopt(l, packed.lattice(l.name)));
                run.student().bring(block, run.backend().operand());
                if (coded.size() == block.linears().size()) run.student().release(block); // a linear left plain keeps its block's weights there
            }
            packing.use();
        }
    }

    @Override
    public void close() {
        if (packed != null) packed.close();
        else dir.close();
    }
}
