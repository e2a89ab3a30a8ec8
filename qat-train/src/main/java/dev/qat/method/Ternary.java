package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Backend;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.EndToEnd;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.List;

/**
 * What a ternary method is, and its one trainer: installs a {@link TernaryWeight} on every linear, trains the whole model
 * through it, and freezes codes and biases.
 *
 * @param rule        how scales are found or learned
 * @param group       weights that share a scale; −1 for a row, −2 for a whole matrix
 * @param activations bits of every linear's input, per token; 0 leaves it alone
 * @param epsilon     what a dead weight counts in its row's bias  @param learned whether one for all, one a row, one a weight trains;
 *                    null without Tequila  @param sign whether its sign counts instead of itself
 */
record Ternary(Kind rule, int group, int activations, double epsilon, Tequila.Epsilon learned, boolean sign) {
    static final int ROW = -1, MATRIX = -2;
    /** Steps between two counts of dead weights. */
    private static final int EVERY = 5;

    /** ABSMEAN, TWN, MEDIAN, SHERRY: from the weights; LSQ, SEQ, SEQ_OFFICIAL, SEQ_FOURS (no trits, but two bits), DLT: learned. */
    enum Kind { ABSMEAN, TWN, MEDIAN, SHERRY, LSQ, SEQ, SEQ_OFFICIAL, SEQ_FOURS, DLT }

    Ternary(Kind rule, int group, int activations) {
        this(rule, group, activations, 0, null, false);
    }

    Ternary {
        if (group < MATRIX || group == 0) throw Fail.usage("group = %d, expected a positive number, -1 for a row or -2 for a matrix", group);
        if (activations != 0 && (activations < 2 || activations > 16)) throw Fail.usage("activations = %d, expected 2 to 16 bits, or 0 for none", activations);
        if (rule == Kind.SHERRY && group > 0 && group % 4 != 0) throw Fail.usage("group = %d, expected a multiple of 4", group);
    }

    // ---- one linear --------------------------------------------------------------------------------------------------

    Trits trits(Linear l) {
        int g = Math.toIntExact(group == MATRIX ? l.outputs() * l.inputs() : group == ROW ? l.inputs() : group);
        return switch (rule) {
            case ABSMEAN, TWN, MEDIAN -> Trits.given(g);
            case SHERRY -> Trits.quads(g);
            case LSQ, DLT -> Trits.lsq(g);
            case SEQ -> Trits.stretched(g, false);
            case SEQ_OFFICIAL -> Trits.stretched(g, true);
            case SEQ_FOURS -> Trits.stretchedFours(g);
        };
    }

    Threshold threshold() {
        return switch (rule) {
            case TWN -> Threshold.TWN;
            case MEDIAN -> Threshold.MEDIAN;
            case SHERRY -> Threshold.QUADS;
            default -> Threshold.ABSMEAN;
        };
    }

    private boolean scalesLearn() {
        return rule.ordinal() >= Kind.LSQ.ordinal();
    }

    boolean has(String part) {
        return switch (part) {
            case "scale" -> true;
            case "edge" -> !scalesLearn();
            case "shift" -> rule == Kind.DLT;
            default -> learned != null;
        };
    }

    /** The shape of a part of one linear. */
    long[] size(String part, Linear l) {
        long groups = l.outputs() * l.inputs() / trits(l).group();
        if (!part.equals("epsilon")) return new long[] {groups};
        return learned == Tequila.Epsilon.WEIGHT ? new long[] {l.outputs(), l.inputs()} : new long[] {l.outputs()};
    }

    boolean learnsEpsilon() {
        return learned == Tequila.Epsilon.ROW || learned == Tequila.Epsilon.WEIGHT;
    }

    /** Where learned scales begin: LSQ at twice the mean of |w|, SEQ at its largest, DLT at the mean. */
    float[] start(float[] w, Linear l) {
        int g = trits(l).group();
        float[] s = new float[w.length / g];
        for (int n = 0; n < s.length; n++) {
            double sum = 0, most = 0;
            for (int i = n * g; i < (n + 1) * g; i++) {
                sum += Math.abs(w[i]);
                most = Math.max(most, Math.abs(w[i]));
            }
            s[n] = (float) (rule == Kind.LSQ ? 2 * sum / g : rule == Kind.DLT ? sum / g : most);
        }
        return s;
    }

    // ---- the whole model ---------------------------------------------------------------------------------------------

    /** Refuses what cannot be computed, or what the recipe's target could not hold, before the first step. */
    private void check(Run run) {
        Rule target = run.rule();
        if (rule == Kind.SEQ_FOURS && !target.target().isEmpty()) throw Fail.usage("target %s has no place for four levels without 0; train seq without a target, or with levels: 3", target.target());
        for (Linear l : run.student().linears()) {
            if (group > 0 && l.inputs() % group != 0) {
                throw Fail.usage("group = %d does not divide the %d inputs of %s. Use a divisor of it, or -1 for the whole row.", group, l.inputs(), l.name);
            }
            if (l.inputs() % target.block() != 0) {
                throw Fail.usage("target %s holds blocks of %d, and rows of %s have %d: no group fits. %s", target.target(), target.block(), l.name, l.inputs(),
                        l.inputs() % 64 == 0 ? "Take gguf:q2_0 with group: 64." : l.inputs() % 32 == 0 ? "Take gguf:q4_0 with group: 32." : "Take gguf:f16 or gptq-v2.");
            }
            if (rule == Kind.SHERRY && l.inputs() % 4 != 0) throw Fail.usage("%s has %d inputs, expected a multiple of 4", l.name, l.inputs());
        }
        String type = run.student().config.type();
        if (learned != null && type.startsWith("qwen")) {
            throw Fail.usage("tequila adds biases to all linears, for which a %s has no place; use absmean, twn or lsq-ternary", type);
        }
    }

    void run(Run run, Stage stage, Course course) {
        run(run, stage, course, null, (_, _) -> {});
    }

    /** @param residual the weight of the unrounded weights while training, set by {@code before}, or null */
    void run(Run run, Stage stage, Course course, Tensor residual, EndToEnd.Before before) {
        run.reset();
        check(run);
        Backend b = run.backend();
        List<TernaryWeight> weights = TernaryWeight.install(b, run.student().linears(), this, residual);
        Tensor scratch = b.memory().tensor("dead weights", 3 * weights.stream().mapToLong(w -> w.linear().outputs()).max().orElseThrow());
        run.gauge("train/dead_share", EVERY, () -> dead(b, weights, scratch));
        run.note("dead_start", dead(b, weights, scratch));
        List<int[]> first = course.epochs() == 0 || run.planned() ? List.of() : codes(b, weights);
        course.train(run, Methods.nameOf(stage) + (stage.variant().isEmpty() ? "" : " (" + stage.variant() + ")"), trained(weights), before);
        run.noGauge();
        run.note("dead_end", dead(b, weights, scratch));
        if (!first.isEmpty()) run.note("dead_stayed", stayed(first, codes(b, weights)));
        b.memory().free(scratch.address);
        freeze(run, weights);
        TernaryWeight.free(b.memory(), weights);
    }

    /** Kind by kind, as they lie in memory. */
    private static List<Param> trained(List<TernaryWeight> weights) {
        List<Param> all = new ArrayList<>();
        for (int part = 0; part < weights.getFirst().params().size(); part++) {
            for (TernaryWeight w : weights) all.add(w.params().get(part));
        }
        return all;
    }

    /** Share of the linears' weights that stand at zero. */
    private static double dead(Backend b, List<TernaryWeight> weights, Tensor scratch) {
        double dead = 0, all = 0;
        for (TernaryWeight w : weights) {
            dead += w.dead(b, scratch);
            all += w.linear().weight.value().size();
        }
        return dead / all;
    }

    /** The codes of all weights as they are now, on the host. */
    private static List<int[]> codes(Backend b, List<TernaryWeight> weights) {
        List<int[]> all = new ArrayList<>();
        for (TernaryWeight w : weights) {
            PackedWeight p = w.freeze(b);
            all.add(b.memory().ints(p.words()));
            for (Tensor part : new Tensor[] {p.words(), p.step(), p.zero(), p.bias()}) if (part != null) b.memory().free(part.address);
        }
        return all;
    }

    /** Of the weights that were at zero (code 1; of four levels, the lower of the inner ones), the share that is there in the end: trapped, or back again. */
    private static double stayed(List<int[]> first, List<int[]> last) {
        long were = 0, are = 0;
        for (int n = 0; n < first.size(); n++) {
            for (int i = 0; i < first.get(n).length; i++) {
                int zero = first.get(n)[i] & ~(first.get(n)[i] >>> 1) & 0x55555555, now = last.get(n)[i] & ~(last.get(n)[i] >>> 1);
                were += Integer.bitCount(zero);
                are += Integer.bitCount(zero & now);
            }
        }
        return were == 0 ? 0 : (double) are / were;
    }

    private void freeze(Run run, List<TernaryWeight> weights) {
        List<Linear> linears = weights.stream().map(TernaryWeight::linear).toList();
        if (rule == Kind.DLT) { // a shift is no whole number of steps: no code stands for it
            weights.forEach(w -> w.bake(run.backend()));
            linears.forEach(l -> l.weightSite.clear());
            return;
        }
        List<PackedWeight> codes = weights.stream().map(w -> w.freeze(run.backend())).toList();
        run.use(linears, codes);
    }
}
