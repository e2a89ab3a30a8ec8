package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.HfModelWriter;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.export.PackedFormat.Grid;
import dev.qat.export.PackedFormat.Part;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/**
 * Writes a Hugging Face directory whose quantized linears a {@link PackedFormat} keeps; everything else in the
 * precision of its steps.
 *
 * <p>Two passes over the linears, one of them in memory at a time: the first refuses and announces, the second writes.
 */
final class PackedDirOut implements Exporter {
    private static final float LARGEST_HALF = 65504;

    private final String target;
    private final long maxShardBytes;
    private final Function<Frozen, PackedFormat> choice;

    /** @param maxShardBytes of tensors in one file  @param choice the format for a model, where it has variants */
    PackedDirOut(String target, long maxShardBytes, Function<Frozen, PackedFormat> choice) {
        this.target = target;
        this.maxShardBytes = maxShardBytes;
        this.choice = choice;
    }

    @Override
    public boolean directory() {
        return true;
    }

    @Override
    public Report write(Path path, Frozen model) {
        Configs.refuseOnline(model.config(), "target " + target);
        if (model.quantized().isEmpty()) throw Fail.usage("target %s: the model has no quantized linear; write gguf:f16 or hf, or quantize it first", target);
        PackedFormat format = choice.apply(model);
        Grid grid = null;
        Map<String, List<Slot>> linears = new LinkedHashMap<>();
        for (String name : model.quantized()) {
            Lattice l = fitted(model, format, name);
            Grid g = new Grid(l.bits(), l.group() == l.cols() ? -1 : l.group(), l.symmetric());
            grid = grid == null ? g : common(name, grid, g);
            linears.put(name, format.slots(l));
        }
        StoredType plain = format.half() == Half.BF16 ? StoredType.BF16 : StoredType.F16;
        List<Slot> slots = new ArrayList<>();
        model.shapes().forEach((name, shape) -> {
            List<Slot> packed = linears.get(Configs.linear(name));
            if (packed == null) slots.add(new Slot(name, plain, shape));
            else slots.addAll(packed);
        });
        ObjectNode config = model.configJson();
        config.put("torch_dtype", plain == StoredType.BF16 ? "bfloat16" : "float16");
        format.config(config.putObject("quantization_config"), grid);
        var options = new HfModelWriter.Options(true, maxShardBytes, model.notes());
        double move = 0;
        try (HfModelWriter out = HfModelWriter.open(path, config, slots, options)) {
            for (var tensor : model.shapes().entrySet()) {
                String linear = Configs.linear(tensor.getKey());
                if (linears.containsKey(linear)) move = Math.max(move, writePacked(out, format, fitted(model, format, linear)));
                else writePlain(out, model, tensor.getKey(), tensor.getValue(), plain);
            }
            for (String file : format.copies()) out.text(file, config.get("quantization_config").toPrettyString() + "\n");
            model.tokenizer().ifPresent(out::copyTokenizer);
            out.finish();
        }
        return report(path, linears, model, slots, move, plain);
    }

    private static Lattice fitted(Frozen model, PackedFormat format, String name) {
        Lattice l = model.lattice(name);
        if (l.minimum()) throw Fail.usage("%s has a minimum per group, which packed directories do not hold; write the gguf target it was trained for", name);
        Lattice fitted = l.widened(format.bits(l));
        format.shape(name, fitted.bits(), fitted.rows(), fitted.cols());
        format.check(fitted);
        return fitted;
    }

    private Grid common(String name, Grid all, Grid one) {
        if (all.bits() != one.bits() || all.group() != one.group()) {
            throw Fail.usage("target %s has one grid for the whole model: %s has %d bits and group %d, the linears before it %d and %d; write a gguf target, or train all linears alike",
                    target, name, one.bits(), one.group(), all.bits(), all.group());
        }
        return new Grid(all.bits(), all.group(), all.symmetric() && one.symmetric());
    }

    private static double writePacked(HfModelWriter out, PackedFormat format, Lattice l) {
        HalfSteps steps = HalfSteps.of(l, format.half());
        for (Part part : format.parts(l, steps)) out.write(part.slot().name(), part.bytes());
        return steps.maxMove();
    }

    private static void writePlain(HfModelWriter out, Frozen model, String name, long[] shape, StoredType type) {
        try (Arena arena = Arena.ofConfined()) {
            long count = 1;
            for (long d : shape) count *= d;
            MemorySegment floats = arena.allocate(4 * count, 64);
            model.read(name, floats);
            for (long i = 0; i < count && type == StoredType.F16; i++) {
                float x = floats.getAtIndex(ValueLayout.JAVA_FLOAT, i);
                if (!(Math.abs(x) <= LARGEST_HALF)) throw Fail.data("%s holds %s, which fp16 cannot; write hf, compressed-tensors:bf16 or a gguf target instead", name, x);
            }
            out.writeFloats(name, floats);
        }
    }

    private Report report(Path path, Map<String, List<Slot>> linears, Frozen model, List<Slot> slots, double move, StoredType plain) {
        List<Report.Stored> stored = new ArrayList<>();
        long bytes = 0, packedBytes = 0, weights = 0;
        for (Slot s : slots) bytes += s.bytes();
        Map<String, long[]> shapes = model.shapes();
        for (var tensor : shapes.entrySet()) {
            long count = 1;
            for (long d : tensor.getValue()) count *= d;
            List<Slot> packed = linears.get(Configs.linear(tensor.getKey()));
            long size = packed == null ? 2 * count : packed.stream().mapToLong(Slot::bytes).sum();
            stored.add(new Report.Stored(tensor.getKey(), packed == null ? plain.name() : target, count, size));
            if (packed == null) continue;
            weights += count;
            packedBytes += size;
        }
        return new Report(target + (plain == StoredType.BF16 ? ":bf16" : ""), path, bytes, 8.0 * packedBytes / weights, move, 0, null, stored, Configs.rounding(model.configJson(), true));
    }
}
