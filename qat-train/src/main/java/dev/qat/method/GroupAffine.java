package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Run;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/**
 * Group-wise asymmetric quantization with a trainable step and zero point per group, EfficientQAT's quantizer
 * (arXiv 2407.11062 §3.2): ŵ = (clamp(rint(w/s) + z, 0, 2^b − 1) − z) · s, started at the group's range. A target's
 * {@link Rule} may fix z, or put a trained minimum in its place, and rounds what it stores.
 */
public final class GroupAffine implements Quantizer {
    private final Linear linear;
    private final Grid grid;
    private final Rule rule;
    private final Param step, zero;   // (O, I/G)

    private GroupAffine(Linear linear, Grid grid, Rule rule, Slab slab) {
        this.linear = linear;
        this.grid = grid;
        this.rule = rule;
        long groups = linear.inputs() / grid.group();
        step = slab.param(linear.name + ".step", Kind.SCALE, linear.outputs(), groups);
        zero = slab.param(linear.name + ".zero", Kind.ZERO, linear.outputs(), groups);
    }

    /** Puts a quantizer at the end of every linear's weight site, on the grid that the rule makes of the stage's bits and group. */
    public static List<GroupAffine> install(Backend backend, String owner, List<Linear> linears, int bits, int group, Rule rule) {
        return install(backend, owner, linears, l -> rule.grid(l, bits, group), rule);
    }

    /** The same on a grid of the stage's own. */
    static List<GroupAffine> install(Backend backend, String owner, List<Linear> linears, Function<Linear, Grid> grid, Rule rule) {
        List<GroupAffine> all = Slab.of(backend.memory(), owner, slab -> {
            List<GroupAffine> q = new ArrayList<>();
            for (Linear l : linears) q.add(new GroupAffine(l, grid.apply(l), rule, slab));
            return q;
        });
        for (GroupAffine q : all) {
            backend.groupRange(q.step.value(), q.zero.value(), q.linear.weight.value(), q.grid);
            q.linear.weightSite.add((t, w) -> Ops.fakeQuant(t, w, rule.step(t, q.step.value()), rule.zero(t, q.zero.value(), q.grid), q.grid));
        }
        return all;
    }

    /** Masters on the points their codes stand for, under quantizers with the codes' steps and zero points. */
    static List<GroupAffine> thaw(Run run, String stage, List<Linear> linears) {
        List<PackedWeight> codes = linears.stream().map(run.packed()::get).toList();
        PackedWeight first = codes.getFirst();
        boolean rows = codes.stream().allMatch(p -> p.group() == p.cols());
        for (PackedWeight p : codes) {
            if (p.bits() != first.bits() || !rows && p.group() != first.group()) {
                throw Fail.usage("%s: %s has %d bits in groups of %d, %s %d in groups of %d; one width for all is expected", stage, first.name(), first.bits(),
                        first.group(), p.name(), p.bits(), p.group());
            }
        }
        List<float[]> steps = new ArrayList<>(), zeros = new ArrayList<>();
        for (int i = 0; i < codes.size(); i++) {
            PackedWeight p = codes.get(i);
            run.backend().dequantize(linears.get(i).weight.value(), p, p.step());
            steps.add(run.planned() ? null : run.backend().memory().floats(p.step()));
            zeros.add(run.planned() ? null : run.backend().memory().floats(p.zero()));
        }
        run.reset();
        int group = rows ? -1 : first.group();
        List<GroupAffine> installed = GroupAffine.install(run.backend(), "steps", linears, first.bits(), group, run.rule());
        for (int i = 0; i < installed.size() && !run.planned(); i++) installed.get(i).start(run.backend().memory(), steps.get(i), zeros.get(i));
        return installed;
    }

    /** Begins at these steps and zero points instead of the range. */
    void start(Memory memory, float[] steps, float[] zeros) {
        memory.set(step.value(), steps);
        memory.set(zero.value(), zeros);
    }

    public Linear linear() {
        return linear;
    }

    /** What EfficientQAT trains: weights and norm gains of the blocks at one rate, steps and zero points of their quantizers at another. */
    static List<AdamW.Group> training(List<Block> blocks, List<GroupAffine> quantizers, double weightRate, double scaleRate) {
        List<Param> weights = new ArrayList<>(), scales = new ArrayList<>();
        for (Block b : blocks) {
            for (Linear l : b.linears()) weights.add(l.weight);
            weights.addAll(b.gains());
        }
        for (GroupAffine q : quantizers) scales.addAll(q.params());
        return List.of(new AdamW.Group(weights, weightRate, 0), new AdamW.Group(scales, scaleRate, 0));
    }

    /** Gives back the slab of quantizers installed together, once their codes are frozen. */
    public static void free(Memory memory, List<GroupAffine> installed) {
        memory.free(installed.getFirst().step.value().address);
    }

    /** Puts weights that were quantized on the host into use; on a run that only plans, {@code solved} is empty. */
    static void use(Run run, List<Linear> linears, int bits, int group, List<Solved> solved) {
        Backend backend = run.backend();
        Memory memory = backend.memory();
        List<GroupAffine> installed = install(backend, "steps", linears, bits, group, run.rule());
        List<Tensor> values = new ArrayList<>();
        for (int i = 0; i < installed.size(); i++) {
            GroupAffine q = installed.get(i);
            values.add(memory.tensor("rounded weight", q.linear.weight.value().dims()));
            if (solved.isEmpty()) continue;
            memory.set(values.get(i), solved.get(i).values());
            memory.set(q.step.value(), solved.get(i).step());
            memory.set(q.zero.value(), solved.get(i).zero());
        }
        run.use(linears, freeze(backend, installed, values));
        values.forEach(v -> memory.free(v.address));
        free(memory, installed);
    }

    /** The codes of quantizers installed together; their steps lie side by side, so that they can train in one pass. */
    public static List<PackedWeight> freeze(Backend backend, List<GroupAffine> installed) {
        return freeze(backend, installed, installed.stream().map(q -> q.linear.weight.value()).toList());
    }

    /** The same with other weights in place of the masters.   values: per quantizer (O, I) */
    static List<PackedWeight> freeze(Backend backend, List<GroupAffine> installed, List<Tensor> values) {
        List<Param> steps = Slab.of(backend.memory(), "packed steps", slab -> installed.stream()
                .map(q -> slab.param(q.linear.name + ".step", Kind.SCALE, q.step.value().dims())).toList());
        List<PackedWeight> all = new ArrayList<>();
        for (int i = 0; i < installed.size(); i++) {
            GroupAffine q = installed.get(i);
            PackedWeight p = q.empty(backend.memory(), steps.get(i).value());
            q.rule.settle(backend, q.step.value(), q.zero.value(), q.grid);
            backend.pack(p, values.get(i), q.step.value(), q.zero.value());
            all.add(p);
        }
        return all;
    }

    /** Codes and zero points of a linear, not yet filled. */
    private PackedWeight empty(Memory memory, Tensor steps) {
        Tensor words = memory.tensor(linear.name + ".codes", DType.I32, linear.outputs(), PackedWeight.wordsPerRow(linear.inputs(), grid.bits()));
        Tensor zeros = memory.tensor(linear.name + ".zero", steps.dims());
        return new PackedWeight(linear.name, grid.bits(), grid.group(), linear.inputs(), words, steps, zeros, null, grid.minimum());
    }

    @Override
    public List<Param> params() {
        return grid.given() < 0 ? List.of(step, zero) : List.of(step);
    }
}
