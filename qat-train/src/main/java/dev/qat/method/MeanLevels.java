package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.ops.Threshold;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;

/**
 * Weights of 2 and 1 bits as LLM-QAT's official code has them: levels about the mean size of a row (or group), which is not trained.
 *
 * <pre>
 * 2 bits   ŵ = s · (rint(2 · clamp(w/s, ±0.99) − ½) + ½)/2, s = 2 mean|w|: levels ±¼ s and ±¾ s
 * 1 bit    ŵ = mean|w| · sign(w), a weight of 0 taking the lower level
 * </pre>
 * Both are codes on a step above a minimum: mean|w| above −1.5 mean|w|, and 2 mean|w| above −mean|w|. The gradient passes straight
 * through, everywhere.
 */
final class MeanLevels {
    private final Linear linear;
    private final Grid grid;
    private final Tensor mean, step, least;   // (O, I/G)

    private MeanLevels(Linear linear, int bits, int group, Slab slab) {
        this.linear = linear;
        grid = new Grid(bits, group, Grid.Offset.MINIMUM);
        mean = tensor(slab, "mean");
        step = tensor(slab, "step");
        least = tensor(slab, "least");
    }

    private Tensor tensor(Slab slab, String part) {
        return slab.param(linear.name + "." + part, Kind.SCALE, linear.outputs(), linear.inputs() / grid.group()).value();
    }

    static boolean has(int bits) {
        return bits <= 2;
    }

    /** Puts one at the end of every linear's weight site.  @param groups of a row, for each linear */
    static List<MeanLevels> install(Backend backend, List<Linear> linears, int bits, List<Integer> groups) {
        List<MeanLevels> all = Slab.of(backend.memory(), "levels", slab -> {
            List<MeanLevels> made = new ArrayList<>();
            for (int i = 0; i < linears.size(); i++) made.add(new MeanLevels(linears.get(i), bits, groups.get(i), slab));
            return made;
        });
        for (MeanLevels q : all) {
            q.linear.weightSite.add((t, w) -> {
                q.range(t.backend());
                return Ops.fixedQuant(t, w, q.step, q.least, q.grid);
            });
        }
        return all;
    }

    static void free(Memory memory, List<MeanLevels> installed) {
        memory.free(installed.getFirst().mean.address);
    }

    /** Step and minimum of the weights as they are now. */
    private void range(Backend b) {
        b.ternaryRange(mean, least, linear.weight.value(), Threshold.ABSMEAN, grid.group());
        b.scale(step, mean, grid.bits() == 2 ? 1 : 2);
        b.scale(least, mean, grid.bits() == 2 ? -1.5f : -1);
    }

    /** The codes of the weights as they are. */
    PackedWeight freeze(Backend b) {
        Memory memory = b.memory();
        Param steps = Slab.of(memory, "packed steps", slab -> slab.param(linear.name + ".step", Kind.SCALE, step.dims()));
        Tensor words = memory.tensor(linear.name + ".codes", DType.I32, linear.outputs(), PackedWeight.wordsPerRow(linear.inputs(), grid.bits()));
        PackedWeight packed = new PackedWeight(linear.name, grid.bits(), grid.group(), linear.inputs(), words, steps.value(), memory.tensor(linear.name + ".least", step.dims()), null, true);
        range(b);
        b.pack(packed, linear.weight.value(), step, least);
        return packed;
    }
}
