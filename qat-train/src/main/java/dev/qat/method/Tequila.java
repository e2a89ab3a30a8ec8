package dev.qat.method;

import dev.qat.tensor.Fail;
import dev.qat.train.Run;
import dev.qat.train.Stage;

/**
 * Tequila (arXiv 2509.23809): ternary weights whose dead ones, instead of nothing, give their row a bias of epsilon times
 * themselves, y = x·Aᵀ + Σ_dead ε·w; so they get a clean gradient beside the straight-through one, and afterwards they are
 * one number per output.
 *
 * @param rule    how scale and dead zone are found: absmean as in the official script, twn, median, or learned
 * @param epsilon where ε begins; 1e-3 in paper and code
 * @param learn   fixed as in the official script, or one trained ε per row (the paper) or per weight (its third variant's λ)
 */
public record Tequila(Rule rule, int group, double epsilon, Epsilon learn, int activations, Course course) implements Stage {
    public enum Rule { ABSMEAN, TWN, MEDIAN, LEARNED }

    public enum Epsilon { FIXED, ROW, WEIGHT }

    public static final Tequila DEFAULTS = new Tequila(Rule.ABSMEAN, 64, 1e-3, Epsilon.FIXED, 0, Course.DEFAULTS);

    public Tequila {
        if (!(epsilon >= 0)) throw Fail.usage("epsilon = %s, expected at least 0", epsilon);
    }

    @Override
    public void run(Run run) {
        Ternary.Kind how = rule == Rule.LEARNED ? Ternary.Kind.LSQ : Ternary.Kind.valueOf(rule.name());
        new Ternary(how, group, activations, epsilon, learn).run(run, this, course);
    }

    @Override
    public String variant() {
        String what = rule == Rule.ABSMEAN ? "" : rule.name().toLowerCase(java.util.Locale.ROOT);
        return what.isEmpty() || course.variant().isEmpty() ? what + course.variant() : what + ", " + course.variant();
    }
}
