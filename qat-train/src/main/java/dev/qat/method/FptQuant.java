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
 * weights stay frozen, and the transforms are merged.
 *
 * <p>What trains is the paper's T_k and T_v ({@link HeadTransforms}), T_u ({@link ScalePair}) and T_r ({@link Turns}), each under a key
 * of its own; T_d and S_n, which do not train, come from {@link FptLocal} before it. Beyond the paper, {@code scales} also trains those
 * of the norms. Open in the sources: steps, rates, batch and data, for which the defaults are this project's; what parametrizes T_k and
 * T_v (here entries, so that Adam's steps need no chart); and how T_r steps (here Cayley SGD, since AIMET has its optimizer alone).
 *
 * @param bits   W-A-KV, such as 4-8-4  @param p of the search for the first ranges; the paper's exponent is not known
 * @param rate   of matrices and log-scales, and of every step relative to where it starts
 * @param keys   trains T_k  @param values trains T_v
 * @param scales trains T_u and the scales of the norms, and where {@code values} is false the diagonal of T_v
 * @param turn   rate of Cayley steps of T_r; 0 leaves the residual stream as it is
 * @param weightRate trains all weights as well, which is LLM-QAT under these quantizers; 0 leaves them frozen, as the paper does
 */
public record FptQuant(String bits, double p, int steps, int batch, double rate, double warmup, boolean keys, boolean values, boolean scales, double turn,
                       double weightRate, Part windows, boolean shuffle, boolean recompute) implements Stage {
    public static final FptQuant DEFAULTS = new FptQuant("4-8-4", 3, 1000, 4, 1e-3, 0.05, true, true, true, 0.5, 0, Part.ALL, true, false);
    /** Windows on which ranges are found. */
    private static final int LOOKED_AT = 16;

    public FptQuant {
        if (!Widths.of(bits).quantizesWeights()) throw Fail.usage("bits = %s: fptquant quantizes weights to 2 to 8 bits", bits);
        Positive.check("steps", steps);
        Positive.check("batch", batch);
        if (turn < 0 || weightRate < 0) throw Fail.usage("turn = %s, weight-rate = %s, expected 0 or more", turn, weightRate);
        if (turn > 0 && weightRate > 0) throw Fail.usage("turn = %s and weight-rate = %s: a rotation trains under frozen weights. Set turn to 0, or give each a stage of its own.", turn, weightRate);
    }

    /** A scale pair and its τ. */
    record Scaled(ScalePair pair, Param tau) {}

    /** Everything that trains beside weights; turns is null where T_r does not. */
    record Parts(List<Scaled> scaled, HeadTransforms heads, Statics statics, Turns turns) {}

    @Override
    public void run(Run run) {
        Parts parts = prepare(run);
        List<AdamW.Group> groups = new ArrayList<>();
        for (Scaled s : parts.scaled) groups.add(new AdamW.Group(List.of(s.tau), rate, 0));
        if (keys || values) groups.add(new AdamW.Group(parts.heads.params(), rate, 0));
        groups.addAll(parts.statics.groups(rate));
        if (turn > 0) groups.addAll(parts.turns.groups());
        if (weightRate > 0) groups.add(new AdamW.Group(run.student().params(), weightRate, 0));
        EndToEnd.train(run, "fptquant", groups, new EndToEnd.Config(0, batch, new Schedule(Schedule.Shape.COSINE, warmup, 0), rate,
                AdamW.Config.DEFAULTS, EndToEnd.Loss.DISTILL, new Divergence(true, 0, 0, 1), windows, shuffle, recompute, steps), (_, _) -> parts.heads.invert(),
                factor -> {
                    if (turn > 0) parts.turns.step(factor);
                });
        freeze(run, parts);
    }

    @Override
    public String variant() {
        return weightRate > 0 ? "weights" : "";
    }

    /** Fills the student's sites: transforms that change nothing yet, ranges as the search finds them. */
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
        Parts parts = new Parts(scaled(run), new HeadTransforms(run, keys, values), new Statics(run, bits, p), turn > 0 ? new Turns(run, turn, false) : null);
        for (Scaled s : parts.scaled) run.backend().fill(s.tau.value(), 0);
        parts.statics.calibrate(LOOKED_AT, windows);
        if (turn > 0) parts.turns.install();
        parts.heads.install();
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
                    if (values && pair.producer() == b.v) continue;   // a part of T_v
                    all.add(new Scaled(pair, slab.param("block " + b.index + " " + pair.name() + " scale", Kind.TRANSFORM, pair.scales())));
                }
            }
            return all;
        });
    }

    /** Merges the transforms, turns the weights to codes and leaves the static quantizers in their sites. */
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
        if (!run.planned()) parts.heads.merge(merge);
        parts.heads.close();
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
