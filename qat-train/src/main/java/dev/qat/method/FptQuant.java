package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.Slab;
import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * The second phase of FPTQuant (arXiv 2506.04985 §3.3): quantizers with static ranges ({@link Statics}) and function-preserving
 * transforms are trained together, end to end, towards the full-precision model's next-token distributions (Jensen–Shannon); base
 * weights stay frozen.
 *
 * <p>What trains here: the scales of channels that can be merged ({@link ScalePair}: T_u, the diagonal of T_v, and the norms'), and
 * with {@code turn} the rotation T_r ({@link Turns}). T_k and the full T_v come from {@link FptLocal} before it. The paper's steps,
 * rates and data are not published: the defaults are this project's.
 *
 * @param bits  W-A-KV, such as 4-8-4  @param p of the search for the first ranges; the paper's exponent is not known
 * @param rate  of log-scales, and of every step relative to where it starts  @param scales trains the scales too, not the ranges alone
 * @param turn  rate of Cayley steps of T_r; 0 leaves the residual stream as it is
 * @param weightRate trains all weights as well, which is LLM-QAT under these quantizers; 0 leaves them frozen, as the paper does
 */
public record FptQuant(String bits, double p, int steps, int batch, double rate, double warmup, boolean scales, double turn, double weightRate, Part windows,
                       boolean shuffle, boolean recompute) implements Stage {
    public static final FptQuant DEFAULTS = new FptQuant("4-8-4", 3, 1000, 4, 1e-3, 0.05, true, 0, 0, Part.ALL, true, false);
    /** Windows on which ranges are found. */
    private static final int LOOKED_AT = 16;

    public FptQuant {
        if (!Widths.of(bits).quantizesWeights()) throw Fail.usage("bits = %s: fptquant quantizes weights to 2 to 8 bits", bits);
        Positive.check("steps", steps);
        Positive.check("batch", batch);
        if (turn < 0 || weightRate < 0) throw Fail.usage("turn = %s, weight-rate = %s, expected 0 or more", turn, weightRate);
        if (turn > 0 && weightRate > 0) throw Fail.usage("turn = %s and weight-rate = %s: a rotation trains under frozen weights. Give each a stage of its own.", turn, weightRate);
    }

    /** A scale pair and its τ. */
    record Scaled(ScalePair pair, Param tau) {}

    /** Everything that trains beside weights; turns is null where T_r does not. */
    record Parts(List<Scaled> scaled, Statics statics, Turns turns) {}

    @Override
    public void run(Run run) {
        Parts parts = prepare(run);
        List<AdamW.Group> groups = new ArrayList<>();
        for (Scaled s : parts.scaled) groups.add(new AdamW.Group(List.of(s.tau), rate, 0));
        groups.addAll(parts.statics.groups(rate));
        if (turn > 0) groups.addAll(parts.turns.groups());
        if (weightRate > 0) groups.add(new AdamW.Group(run.student().params(), weightRate, 0));
        EndToEnd.train(run, "fptquant", groups, new EndToEnd.Config(0, batch, new Schedule(Schedule.Shape.COSINE, warmup, 0), rate,
                AdamW.Config.DEFAULTS, EndToEnd.Loss.DISTILL, new Divergence(true, 0, 0, 1), windows, shuffle, recompute, steps), (_, _) -> {},
                factor -> {
                    if (turn > 0) parts.turns.step(factor);
                });
        freeze(run, parts);
    }

    @Override
    public String variant() {
        return weightRate > 0 ? "weights" : "";
    }

    /** Fills the student's sites: scales of 1, a rotation that turns nothing, ranges as the search finds them. */
    Parts prepare(Run run) {
        run.reset();
        Model m = run.student();
        if (turn > 0) {
            m.untie();
            if (!run.planned()) {
                Merge to = new Merge(m.memory());
                Folds.gains(to, m);
                to.store();
            }
        }
        Parts parts = new Parts(scaled(run), new Statics(run, bits, p), turn > 0 ? new Turns(run, turn, false) : null);
        for (Scaled s : parts.scaled) run.backend().fill(s.tau.value(), 0);
        parts.statics.calibrate(LOOKED_AT, windows);
        if (turn > 0) parts.turns.install();
        for (Scaled s : parts.scaled) s.pair.install(s.tau);
        parts.statics.install();
        return parts;
    }

    private List<Scaled> scaled(Run run) {
        if (!scales) return List.of();
        return Slab.of(run.backend().memory(), "scales", slab -> {
            List<Scaled> all = new ArrayList<>();
            for (Block b : run.student().blocks()) {
                for (ScalePair pair : ScalePair.of(b, run.student().config, true)) {
                    all.add(new Scaled(pair, slab.param("block " + b.index + " " + pair.name() + " scale", Kind.TRANSFORM, pair.scales())));
                }
            }
            return all;
        });
    }

    /** Merges the rotation and the scales, turns the weights to codes and leaves the static quantizers in their sites. */
    void freeze(Run run, Parts parts) {
        Memory memory = run.backend().memory();
        Merge merge = new Merge(memory);
        if (turn > 0) {
            if (!run.planned()) {
                run.watch().say(String.format(Locale.ROOT, "fptquant: the rotation is off by at most %.1e from orthogonal", parts.turns.error()));
                parts.turns.merge(merge);
            }
            parts.turns.close();
        }
        for (Scaled s : parts.scaled) {
            if (run.planned()) continue;
            double[] e = new double[s.pair.scales()];
            float[] tau = memory.floats(s.tau.value());
            for (int i = 0; i < e.length; i++) e[i] = Math.exp(tau[i]);
            s.pair.merge(merge, e);
        }
        parts.statics.freeze(merge, (linear, step) -> divide(memory, parts, linear, step));
    }

    /** A row that a scale divides has its step divided too: training saw it before that scale. */
    private static void divide(Memory memory, Parts parts, Linear linear, float[] step) {
        for (Scaled s : parts.scaled) {
            if (s.pair.producer() != linear) continue;
            float[] tau = memory.floats(s.tau.value());
            for (int o = 0; o < step.length; o++) step[o] *= (float) Math.exp(-tau[o]);
        }
    }
}
