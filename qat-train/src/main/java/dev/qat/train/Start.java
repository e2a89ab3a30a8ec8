package dev.qat.train;

import dev.qat.data.HfModelDir;
import dev.qat.export.Frozen;
import dev.qat.export.GgufDir;
import dev.qat.export.GgufIn;
import dev.qat.export.PackedIn;
import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;

/**
 * What a run starts from: a directory of plain weights, or a model that somebody packed (GPTQ, AWQ, compressed-tensors, GGUF), whose
 * codes are in use from the beginning and whose steps can train.
 */
final class Start implements AutoCloseable {
    private final Path path;
    private final HfModelDir dir;
    private final Frozen packed;   // null where weights are plain
    private final GgufDir gguf;    // what stands for a directory where there is but a file; else null

    private Start(Path path, HfModelDir dir, Frozen packed, GgufDir gguf) {
        this.path = path;
        this.dir = dir;
        this.packed = packed;
        this.gguf = gguf;
    }

    /** @param weights whether plain weights must be there; packed ones must in any case, since their headers say what they are */
    static Start open(Path path, boolean weights) {
        if (Files.isRegularFile(path)) return file(path);
        try (HfModelDir known = HfModelDir.describe(path)) {
            if (PackedIn.isPacked(known)) {
                PackedIn packed = PackedIn.open(path);
                return new Start(path, packed.dir(), packed, null);
            }
        }
        return new Start(path, weights ? HfModelDir.open(path) : HfModelDir.describe(path), null, null);
    }

    private static Start file(Path path) {
        GgufIn in = GgufIn.open(path);
        try {
            GgufDir dir = GgufDir.of(in);
            return new Start(path, HfModelDir.describe(dir.dir()), in, dir);
        } catch (RuntimeException e) {
            in.close();
            throw e;
        }
    }

    HfModelDir dir() {
        return dir;
    }

    ModelConfig config() {
        return packed != null ? packed.config() : ModelConfig.of(dir.config(), dir.dir().resolve("config.json").toString());
    }

    /** The files that say what the model is, by name: texts and weights. */
    List<Path> files() {
        List<Path> all = new ArrayList<>();
        try (Stream<Path> inside = Files.list(dir.dir())) {
            inside.filter(f -> f.toString().endsWith(".json") || f.toString().endsWith(".safetensors")).filter(Files::isRegularFile).sorted().forEach(all::add);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        if (gguf != null) all.add(path);
        return all;
    }

    /** What a user should know of a packed start; nothing of a plain one. */
    List<String> description() {
        if (packed == null) return List.of();
        List<String> lines = new ArrayList<>();
        int coded = packed.quantized().size();
        if (coded > 0) lines.add("%s: the codes of %d linears are kept, and their steps can train (e2e-qp); other stages begin with what they stand for".formatted(path, coded));
        else lines.add("%s: no codes to go on from; its weights are decoded, and stages such as rtn or block-ap make new codes".formatted(path));
        if (!packed.remark().isEmpty()) lines.add(packed.remark());
        return lines;
    }

    /** A model whose blocks come from here when they are wanted. */
    Model model(Memory memory, DType frozen) {
        return packed == null ? Model.open(dir, memory, frozen) : Model.open(packed.config(), packed.source(), memory, frozen);
    }

    /** Puts the codes that are there already to use in the student. */
    void codes(Run run) {
        if (packed == null || packed.quantized().isEmpty()) return;
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
        if (run.planned()) return;
        double moved = run.packed().values().stream().mapToDouble(p -> moved(run, p)).max().orElse(0);
        if (moved > 0) run.watch().say("target %s stores steps more coarsely than the start: they move by up to %.3g of themselves".formatted(run.rule().target(), moved));
    }

    /** By how much the target's rounding moves the steps of these codes, at most, each relative to itself. */
    private static double moved(Run run, PackedWeight p) {
        Memory memory = run.backend().memory();
        Tensor copy = memory.tensor("steps as stored", p.step().dims());
        float[] before = memory.floats(p.step());
        memory.set(copy, before);
        run.rule().settle(run.backend(), copy);
        float[] after = memory.floats(copy);
        memory.free(copy.address);
        double most = 0;
        for (int i = 0; i < before.length; i++) if (before[i] != 0) most = Math.max(most, Math.abs((double) after[i] - before[i]) / Math.abs(before[i]));
        return most;
    }

    @Override
    public void close() {
        if (packed != null) packed.close(); // of a directory, this closes it
        else dir.close();
        if (gguf != null) gguf.close();
    }
}
