package dev.qat.method;

import dev.qat.data.Windows;
import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Ranges;
import dev.qat.model.Site;
import dev.qat.model.Slab;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Chain;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Tally;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.BiConsumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * Static quantizers of a whole model: one symmetric step per row of every weight, and one for all of a linear's input, of the keys
 * that are stored and of the values. Ranges start by a p-norm search and may train ({@link Ops#lsq}).
 */
final class Statics {
    /** A static quantizer and its step; a linear's weight and its steps, one per row. */
    private record Ranged(int block, Ranges.Value value, Site.Whole quantizer) {}

    private record Weighted(int block, Linear linear, Param step) {}

    private final Run run;
    private final Widths bits;
    private final double p;
    private final List<Ranged> ranged = new ArrayList<>();
    private final List<Weighted> weighted = new ArrayList<>();

    /** Quantizers with no range yet.  @param p of the search for ranges */
    Statics(Run run, String widths, double p) {
        this.run = run;
        this.bits = Widths.of(widths);
        this.p = p;
        Slab.of(run.backend().memory(), "ranges", slab -> {
            ranged.clear();
            weighted.clear();
            for (Block b : run.student().blocks()) {
                String at = "block " + b.index + " ";
                for (Ranges.Value v : Ranges.values(b)) {
                    int width = v.cached() ? bits.cache() : bits.activations();
                    if (width != Widths.OFF) ranged.add(new Ranged(b.index, v, new Site.Whole(width, slab.param(at + v.name() + " step", Kind.SCALE, 1))));
                }
                for (Linear l : b.linears()) weighted.add(new Weighted(b.index, l, slab.param(l.name + ".step", Kind.SCALE, l.outputs())));
            }
            return slab;
        });
    }

    /** Sets every range: of the weights as they are, and of what the model sends past the sites for the first windows. */
    void calibrate(int batch, Part windows) {
        Windows all = run.windows(windows);
        Windows few = new Windows(all.ids(), Arrays.copyOf(all.starts(), Math.min(batch, all.count())), all.length());
        try (Chain chain = Chain.open(run, "ranges", few, few.count())) {
            for (Block b : run.student().blocks()) calibrate(chain, b);
            chain.free();
        }
        run.reset();
    }

    private void calibrate(Chain chain, Block b) {
        Memory memory = run.backend().memory();
        List<Ranged> sites = ranged.stream().filter(r -> r.block == b.index).toList();
        List<Weighted> weights = weighted.stream().filter(w -> w.block == b.index).toList();
        List<Tensor> seen = new ArrayList<>();
        for (Ranged r : sites) {
            Tensor copy = memory.tensor("values seen", chain.x.rows(), r.value.channels());
            seen.add(copy);
            r.value.sites().getFirst().add((t, x) -> {
                t.backend().copy(copy, x);
                return x;
            });
        }
        chain.advance(b, seen.stream().map(t -> Tally.in(memory, t)).toList());
        List<Param> steps = Stream.concat(sites.stream().map(r -> r.quantizer.step), weights.stream().map(Weighted::step)).toList();
        List<MemorySegment> found = run.once("ranges", b.index, steps.stream().mapToLong(s -> s.value().bytes()).sum(), () -> run.planned() ? List.of() : Stream.concat(
                IntStream.range(0, sites.size()).mapToObj(i -> range(sites.get(i), memory.floats(seen.get(i)))), weights.stream().map(w -> rows(memory, w))).map(MemorySegment::ofArray).toList());
        for (int i = 0; i < found.size(); i++) memory.write(steps.get(i).value(), found.get(i));
        seen.forEach(t -> memory.free(t.address));
    }

    private float[] range(Ranged r, float[] x) {
        return new float[] {StaticRange.step(x, r.quantizer.bits, p, () -> run.pause("ranges", r.block))};
    }

    private float[] rows(Memory memory, Weighted of) {
        float[] w = memory.floats(of.linear.weight.value()), step = new float[Math.toIntExact(of.linear.outputs())];
        int I = Math.toIntExact(of.linear.inputs());
        Pieces.parallel(step.length, StaticRange.operations(I), () -> run.pause("ranges", of.block), o -> step[o] = StaticRange.step(w, o * I, I, bits.weights(), p));
        return step;
    }

    /** Puts the quantizers after what is in the sites already. */
    void install() {
        activations();
        for (Weighted w : weighted) {
            Grid grid = grid(w.linear);
            w.linear.weightSite.add((t, x) -> Ops.lsq(t, x, w.step.value(), grid));
        }
    }

    private void activations() {
        for (Ranged r : ranged) r.value.sites().forEach(site -> site.add(r.quantizer));
    }

    private Grid grid(Linear l) {
        return new Grid(bits.weights(), Math.toIntExact(l.inputs()));
    }

    /** Every range at the rate times where it starts, since steps of different tensors differ by orders. */
    List<AdamW.Group> groups(double rate) {
        List<AdamW.Group> groups = new ArrayList<>();
        for (Ranged r : ranged) groups.add(relative(r.quantizer.step, rate));
        for (Weighted w : weighted) groups.add(relative(w.step, rate));
        return groups;
    }

    private AdamW.Group relative(Param step, double rate) {
        float[] s = run.planned() ? new float[] {1} : run.backend().memory().floats(step.value());
        double mean = 0;
        for (float v : s) mean += v / s.length;
        return new AdamW.Group(List.of(step), rate * mean, 0);
    }

    /**
     * Turns the weights to codes, which stay in use, and leaves the static quantizers in their sites; the model is its own source.
     *
     * @param merge what else is written into the weights, not yet stored  @param rows changes the steps of a linear's rows (O) that training saw before a scale
     */
    void freeze(Merge merge, BiConsumer<Linear, float[]> rows) {
        run.reset();
        List<Linear> linears = weighted.stream().map(Weighted::linear).toList();
        List<Solved> solved = new ArrayList<>();
        if (!run.planned()) {
            for (Weighted w : weighted) solved.add(codes(merge, rows, w));
            merge.store();
        }
        run.student().keep();
        activations();
        GroupAffine.use(run, linears, bits.weights(), -1, solved);
    }

    private Solved codes(Merge merge, BiConsumer<Linear, float[]> rows, Weighted w) {
        double[] values = merge.of(w.linear.weight);
        float[] step = run.backend().memory().floats(w.step.value());
        rows.accept(w.linear, step);
        int I = Math.toIntExact(w.linear.inputs()), low = grid(w.linear).lowest(), high = grid(w.linear).highest();
        Solved out = Solved.empty(step.length, I, I);
        for (int i = 0; i < values.length; i++) out.values()[i] = (float) Math.clamp(Math.rint(values[i] / step[i / I]), low, high) * step[i / I];
        System.arraycopy(step, 0, out.step(), 0, step.length);
        Arrays.fill(out.zero(), -low);
        return out;
    }
}
