package dev.qat.method;

import dev.qat.tensor.Fail;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Tequila (arXiv 2509.23809): ternary weights whose dead ones, instead of nothing, give their row a bias of epsilon times
 * themselves, y = x·Aᵀ + Σ_dead ε·w; so they get a clean gradient beside the straight-through one, and afterwards they are
 * one number per output.
 *
 * <p>The released code's earlier variants are options as far as a bias can hold them. {@code sign}: ±ε in place of ε·w, with the
 * straight-through gradient Σ dy not scaled by ε; the code multiplies it with sign(x), which no bias can be, so that is left out.
 * {@code learn: weight}: the code's λ∘w. There λ begins as 0.01·N(0, 1) and follows a loss of its own, (Σ_dead w·x − Σ_dead λ·w)²,
 * a dead weight gets λ·Σ dy alone and a live one's gradient is multiplied by its scale; here λ begins at ε and follows the model's
 * loss, and weights get what they get with any other ε, so that rates can be compared.
 *
 * @param rule    how scale and dead zone are found: absmean as in the official script, twn, median, or learned
 * @param epsilon where ε begins; 1e-3 in paper and code
 * @param learn   fixed as in the official script, or one trained ε per row (the paper) or per weight
 * @param sign    a dead weight's sign counts ε, not the weight
 */
public record Tequila(Rule rule, int group, double epsilon, Epsilon learn, boolean sign, int activations, Course course) implements Stage {
    public enum Rule { ABSMEAN, TWN, MEDIAN, LEARNED }

    public enum Epsilon { FIXED, ROW, WEIGHT }

    public static final Tequila DEFAULTS = new Tequila(Rule.ABSMEAN, 64, 1e-3, Epsilon.FIXED, false, 0, Course.DEFAULTS);

    public Tequila {
        if (!(epsilon >= 0)) throw Fail.usage("epsilon = %s, expected at least 0", epsilon);
    }

    @Override
    public void run(Run run) {
        Ternary.Kind how = rule == Rule.LEARNED ? Ternary.Kind.LSQ : Ternary.Kind.valueOf(rule.name());
        new Ternary(how, group, activations, epsilon, learn, sign).run(run, this, course);
    }

    @Override
    public String variant() {
        String how = rule == Rule.ABSMEAN ? "" : rule.name().toLowerCase(Locale.ROOT);
        return Stream.of(how, sign ? "signs" : "", course.variant()).filter(w -> !w.isEmpty()).collect(Collectors.joining(", "));
    }
}
