package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Chain;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The second phase of FPTQuant (arXiv 2506.04985 §3.3): quantizers with static ranges and function-preserving scales are trained
 * together, end to end, towards the full-precision model's next-token distributions (Jensen–Shannon); base weights stay frozen.
 *
 * <p>Weights have one learned symmetric step per row, every linear's input, keys before rope and values one per tensor, started by a
 * p-norm search. The scales that train here are those of the channels that can be merged ({@link ScalePair}: T_u, the diagonal of
 * T_v, and the norms'); T_k, the full T_v and the rotation come from {@link FptLocal} before it. The paper's steps, rates and data
 * are not published: the defaults are this project's.
 *
 * @param bits  W-A-KV, such as 4-8-4  @param p of the search for the first ranges; the paper's exponent is not known
 * @param rate  of log-scales, and of every step relative to where it starts  @param scales trains the scales too, not the ranges alone
 */
public record FptQuant(String bits, double p, int steps, int batch, double rate, double warmup, boolean scales, Part windows, boolean shuffle,
                       boolean recompute) implements Stage {
    public static final FptQuant DEFAULTS = new FptQuant("4-8-4", 3, 1000, 4, 1e-3, 0.05, true, Part.ALL, true, false);

    public FptQuant {
        Widths w = Widths.of(bits);
        if (!w.quantizesWeights()) throw Fail.usage("bits = %s: fptquant quantizes weights to 2 to 8 bits", bits);
        Positive.check("steps", steps);
        Positive.check("batch", batch);
    }

    /** A scale pair and its τ. */
    record Scaled(ScalePair pair, Param tau) {}

    /** A static quantizer and its step; a linear's weight and its steps, one per row. */
    record Ranged(StaticSite site, Param step) {}

    record Weighted(Linear linear, Param step) {}

    /** Everything that trains, side by side in memory. */
    record Parts(List<Scaled> scaled, List<Ranged> ranged, List<Weighted> weighted) {}

    @Override
    public void run(Run run) {
        Memory memory = run.backend().memory();
        Parts parts = prepare(run);
        EndToEnd.train(run, "fptquant", groups(memory, parts, run.planned()), new EndToEnd.Config(0, batch, new Schedule(Schedule.Shape.COSINE, warmup, 0), rate,
                AdamW.Config.DEFAULTS, EndToEnd.Loss.DISTILL, new Divergence(true, 0, 0, 1), windows, shuffle, recompute, steps));
        freeze(run, parts);
    }

    /** Fills the student's sites: scales of 1, ranges as the search finds them. */
    Parts prepare(Run run) {
        run.reset();
        Memory memory = run.backend().memory();
        Parts parts = parts(run);
        for (Scaled s : parts.scaled) run.backend().fill(s.tau.value(), 0);
        for (Weighted w : parts.weighted) if (!run.planned()) memory.set(w.step.value(), rows(memory, w.linear));
        calibrate(run, parts.ranged);
        install(parts);
        return parts;
    }

    private Parts parts(Run run) {
        Widths w = Widths.of(bits);
        return Slab.of(run.backend().memory(), "scales and ranges", slab -> {
            Parts all = new Parts(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
            for (Block b : run.student().blocks()) {
                String at = "block " + b.index + " ";
                for (ScalePair pair : scales ? ScalePair.of(b, run.student().config, true) : List.<ScalePair>of()) {
                    all.scaled.add(new Scaled(pair, slab.param(at + pair.name() + " scale", Kind.TRANSFORM, pair.scales())));
                }
                for (StaticSite s : sites(b, w)) all.ranged.add(new Ranged(s, slab.param(at + s.name() + " step", Kind.SCALE, 1)));
                for (Linear l : b.linears()) all.weighted.add(new Weighted(l, slab.param(l.name + ".step", Kind.SCALE, l.outputs())));
            }
            return all;
        });
    }

    private static List<StaticSite> sites(Block b, Widths w) {
        List<StaticSite> all = new ArrayList<>();
        if (w.activations() != Widths.OFF) {
            all.add(new StaticSite("qkv input", List.of(b.q.inputSite, b.k.inputSite, b.v.inputSite), w.activations(), b.q.inputs()));
            all.add(new StaticSite("o input", List.of(b.o.inputSite), w.activations(), b.o.inputs()));
            all.add(new StaticSite("gate, up input", List.of(b.gate.inputSite, b.up.inputSite), w.activations(), b.gate.inputs()));
            all.add(new StaticSite("down input", List.of(b.down.inputSite), w.activations(), b.down.inputs()));
        }
        if (w.cache() != Widths.OFF) {
            all.add(new StaticSite("keys", List.of(b.keySite), w.cache(), b.k.outputs()));
            all.add(new StaticSite("values", List.of(b.valueSite), w.cache(), b.v.outputs()));
        }
        return all;
    }

    private float[] rows(Memory memory, Linear l) {
        float[] w = memory.floats(l.weight.value()), step = new float[Math.toIntExact(l.outputs())];
        int I = Math.toIntExact(l.inputs());
        IntStream.range(0, step.length).parallel().forEach(o -> step[o] = StaticRange.step(w, o * I, I, Widths.of(bits).weights(), p));
        return step;
    }

    /** The first ranges, from what the full-precision model sends past the sites for the first batch of windows. */
    private void calibrate(Run run, List<Ranged> ranged) {
        Memory memory = run.backend().memory();
        try (Chain chain = Chain.open(run, "fptquant", run.windows(windows).first(batch), batch)) {
            List<Tensor> seen = new ArrayList<>();
            for (Ranged r : ranged) {
                Tensor copy = memory.tensor("values seen", chain.x.rows(), r.site.channels());
                seen.add(copy);
                r.site.sites().getFirst().add((t, x) -> {
                    t.backend().copy(copy, x);
                    return x;
                });
            }
            for (Block b : run.student().blocks()) chain.advance(b);
            IntStream.range(0, ranged.size()).filter(i -> !run.planned()).parallel().forEach(i -> {
                float[] x = memory.floats(seen.get(i));
                memory.set(ranged.get(i).step.value(), StaticRange.step(x, 0, x.length, ranged.get(i).site.bits(), p));
            });
            seen.forEach(t -> memory.free(t.address));
            chain.free();
        }
        run.reset();
    }

    private void install(Parts parts) {
        for (Scaled s : parts.scaled) s.pair.install(s.tau);
        for (Ranged r : parts.ranged) r.site.install(r.step);
        for (Weighted w : parts.weighted) {
            Grid grid = grid(w.linear);
            w.linear.weightSite.add((t, x) -> Ops.lsq(t, x, w.step.value(), grid));
        }
    }

    private Grid grid(Linear l) {
        return new Grid(Widths.of(bits).weights(), Math.toIntExact(l.inputs()));
    }

    /** Log-scales at the rate itself; every range at the rate times where it starts, since steps of different tensors differ by orders. */
    private List<AdamW.Group> groups(Memory memory, Parts parts, boolean planned) {
        List<AdamW.Group> groups = new ArrayList<>();
        for (Scaled s : parts.scaled) groups.add(new AdamW.Group(List.of(s.tau), rate, 0));
        for (Ranged r : parts.ranged) groups.add(relative(memory, r.step, planned));
        for (Weighted w : parts.weighted) groups.add(relative(memory, w.step, planned));
        return groups;
    }

    private AdamW.Group relative(Memory memory, Param step, boolean planned) {
        float[] s = planned ? new float[] {1} : memory.floats(step.value());
        double mean = 0;
        for (float v : s) mean += v / s.length;
        return new AdamW.Group(List.of(step), rate * mean, 0);
    }

    /** Merges the scales, turns the weights to codes and leaves the static quantizers in their sites. */
    void freeze(Run run, Parts parts) {
        Memory memory = run.backend().memory();
        run.reset();
        List<Linear> linears = parts.weighted.stream().map(Weighted::linear).toList();
        List<Solved> solved = new ArrayList<>();
        if (!run.planned()) {
            Merge merge = new Merge(memory);
            for (Scaled s : parts.scaled) {
                double[] e = new double[s.pair.scales()];
                float[] tau = memory.floats(s.tau.value());
                for (int i = 0; i < e.length; i++) e[i] = Math.exp(tau[i]);
                s.pair.merge(merge, e);
            }
            for (Weighted w : parts.weighted) solved.add(codes(memory, merge, parts, w));
            merge.store();
        }
        run.student().keep();
        for (Ranged r : parts.ranged) r.site.install(r.step);
        GroupAffine.use(run, linears, Widths.of(bits).weights(), -1, solved);
    }

    /** Codes of the merged weight. A row that a scale divides has its step divided too: training saw it before that scale. */
    private Solved codes(Memory memory, Merge merge, Parts parts, Weighted w) {
        double[] values = merge.of(w.linear.weight);
        float[] step = memory.floats(w.step.value());
        for (Scaled s : parts.scaled) {
            if (s.pair.producer() != w.linear) continue;
            float[] tau = memory.floats(s.tau.value());
            for (int o = 0; o < step.length; o++) step[o] *= (float) Math.exp(-tau[o]);
        }
        int I = Math.toIntExact(w.linear.inputs()), low = grid(w.linear).lowest(), high = grid(w.linear).highest();
        Solved out = Solved.empty(step.length, I, I);
        for (int i = 0; i < values.length; i++) out.values()[i] = (float) Math.clamp(Math.rint(values[i] / step[i / I]), low, high) * step[i / I];
        System.arraycopy(step, 0, out.step(), 0, step.length);
        Arrays.fill(out.zero(), -low);
        return out;
    }
}
