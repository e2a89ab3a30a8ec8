package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.train.AdamW;
import dev.qat.train.Blockwise;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * Trainable equivalent transformation (TEQ, arXiv 2310.10944): one scale per input channel of linears that share an input,
 * trained through fake-quantized weights, then merged; the model computes what it did, and quantizes better. What follows
 * quantizes it: rtn, gptq, block-ap.
 *
 * <pre>y = Q(W · diag(s)) · diag(1/s) x, s = e^τ; Q min-max per group, its gradient straight through</pre>
 *
 * <p>Official: s itself trains, clipped at 1e-5 below which it is dead; here τ does, which starts at the same point and needs no
 * clip. Official: only q, k, v and gate, up are scaled; {@code linears} adds o ← v and down ← up.
 *
 * <p>Official: the gradient takes each group's range for a constant. But scaling a group's channels alike scales its range as well and
 * changes nothing, and a channel that spans the range coarsens all others: straight through, dL/dτ_j = −Σ_i G_ij·(ŵ − w)_ij asks every
 * channel with a harmful error to grow, those that make the range too. {@code throughRange} lets the gradient see it.
 *
 * @param bits     of what follows: 0 takes the target's, without one 4  @param group −1 for the whole row; 0 takes the target's, without one 64
 * @param steps    of the whole model, or of each block where {@code loss} is block
 * @param loss     the model's cross-entropy on the text (official), its KL to the full-precision model, or each block's squared error
 * @param sqrtInit starts at s = 1/√max|w| of the channel instead of 1
 * @param throughRange whether the gradient knows that ranges follow the scaled weights; false is official
 */
public record Teq(int bits, int group, int steps, int batch, double rate, double warmup, Loss loss, boolean sqrtInit, boolean linears, boolean throughRange, Part windows,
                  boolean shuffle, boolean recompute) implements Stage {
    public enum Loss { CROSS_ENTROPY, DISTILL, BLOCK }

    public static final Teq DEFAULTS = new Teq(0, 0, 1000, 1, 1e-3, 0.05, Loss.CROSS_ENTROPY, false, true, false, Part.ALL, true, false);
    private static final AdamW.Config ADAM = new AdamW.Config(0.9, 0.9, 1e-8, 0);

    public Teq {
        Bits.check(bits);
        Positive.check("steps", steps);
        Positive.check("batch", batch);
    }

    /** A pair and its τ. */
    private record Scaled(ScalePair pair, Param tau) {}

    @Override
    public void run(Run run) {
        run.reset();
        Memory memory = run.backend().memory();
        List<List<Scaled>> scaled = scales(run);
        if (!run.planned()) {
            start(memory, scaled);
            long trained = scaled.stream().flatMap(List::stream).mapToLong(s -> s.tau.value().size()).sum(), all = run.student().config.parameters();
            run.watch().say(String.format(Locale.ROOT, "teq: %,d scales train, %.3f %% of %,d parameters", trained, 100.0 * trained / all, all));
        }
        Schedule schedule = new Schedule(Schedule.Shape.LINEAR, warmup, 0);
        if (loss == Loss.BLOCK) {
            Blockwise.train(run, "teq", new Blockwise.Config(0, steps, batch, rate, schedule, ADAM, windows, shuffle), perBlock(scaled, run.rule()));
        } else {
            for (Block b : run.student().blocks()) install(b, scaled.get(b.index), run.rule());
            List<Param> taus = scaled.stream().flatMap(List::stream).map(Scaled::tau).toList();
            EndToEnd.train(run, "teq", List.of(new AdamW.Group(taus, rate, 0)), new EndToEnd.Config(0, batch, schedule, rate, ADAM,
                    loss == Loss.DISTILL ? EndToEnd.Loss.DISTILL : EndToEnd.Loss.CROSS_ENTROPY, Divergence.KL, windows, shuffle, recompute, steps));
        }
        run.reset();
        if (!run.planned()) merge(memory, scaled);
        run.student().keep();
        memory.free(scaled.getFirst().getFirst().tau.value().address);
    }

    private Blockwise.Method perBlock(List<List<Scaled>> scaled, Rule rule) {
        return new Blockwise.Method() {
            @Override
            public List<AdamW.Group> prepare(Block b) {
                install(b, scaled.get(b.index), rule);
                return List.of(new AdamW.Group(scaled.get(b.index).stream().map(Scaled::tau).toList(), rate, 0));
            }
        };
    }

    private List<List<Scaled>> scales(Run run) {
        return Slab.of(run.backend().memory(), "channel scales", slab -> {
            List<List<Scaled>> blocks = new ArrayList<>();
            for (Block b : run.student().blocks()) {
                blocks.add(ScalePair.of(b, run.student().config, linears).stream()
                        .map(p -> new Scaled(p, slab.param("scale of block %d %s".formatted(b.index, p.name()), Param.Kind.TRANSFORM, p.scales()))).toList());
            }
            return blocks;
        });
    }

    /** τ = 0, or −½ log of the largest |w| of the channel. */
    private void start(Memory memory, List<List<Scaled>> scaled) {
        for (List<Scaled> block : scaled) {
            Merge weights = new Merge(memory);
            for (Scaled s : block) {
                float[] tau = new float[s.pair.scales()];
                double[] most = sqrtInit ? s.pair.largest(weights) : null;
                for (int i = 0; i < tau.length; i++) tau[i] = most == null || most[i] == 0 ? 0 : (float) (-0.5 * Math.log(most[i]));
                memory.set(s.tau.value(), tau);
            }
        }
    }

    /** The scales, and the quantizer that they train for, in a block's sites. */
    private void install(Block b, List<Scaled> scaled, Rule rule) {
        for (Scaled s : scaled) s.pair.install(s.tau);
        for (Linear l : b.linears()) {
            Grid grid = new Grid(rule.bits(bits), rule.grid(l, bits, group).group());
            l.weightSite.add((t, w) -> Ops.minMaxQuant(t, w, grid, throughRange));
        }
    }

    private static void merge(Memory memory, List<List<Scaled>> scaled) {
        for (List<Scaled> block : scaled) {
            Merge to = new Merge(memory);
            for (Scaled s : block) {
                float[] tau = memory.floats(s.tau.value());
                s.pair.merge(to, Arrays.stream(doubles(tau)).map(Math::exp).toArray());
            }
            to.store();
        }
    }

    private static double[] doubles(float[] v) {
        double[] d = new double[v.length];
        for (int i = 0; i < d.length; i++) d[i] = v[i];
        return d;
    }
}
