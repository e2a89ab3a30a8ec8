package dev.qat.export;

import dev.qat.data.GgmlType;
import dev.qat.tensor.Fail;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Which GGUF types hold a trained lattice exactly: whole blocks inside one group, and every code − zero a point of the type.
 *
 * <p>Q4_1 stores the codes and m = −zero · step beside the step, so it holds any codes of up to 4 bits, with m rounded; codes on
 * minima of their own go in exactly. Q2_K holds codes of 2 bits whose steps and minima are {@link TwoLevels}.
 * Where a row is no multiple of a type's block, the next type that holds the same numbers takes its place, at last F32.
 */
final class GgufFit {
    /** Smallest first. */
    private static final List<GgmlType> LATTICES = List.of(GgmlType.TQ1_0, GgmlType.TQ2_0, GgmlType.Q2_0, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q8_0);

    private GgufFit() {}

    /** The types among {@link #LATTICES} that hold the numbers, whatever the row's length. */
    static Set<GgmlType> numbers(Lattice l) {
        if (l.minimum()) {
            if (l.bits() <= 4 && halves(l.step()) && halves(l.zero())) return EnumSet.of(GgmlType.Q4_1);
            return l.bits() <= 2 && l.group() == 16 ? EnumSet.of(GgmlType.Q2_K) : EnumSet.noneOf(GgmlType.class);
        }
        int lowest = 0, highest = 0;
        int[] q = new int[l.cols()];
        for (int r = 0; r < l.rows(); r++) {
            l.whole(q, r);
            for (int v : q) {
                lowest = Math.min(lowest, v);
                highest = Math.max(highest, v);
            }
        }
        Set<GgmlType> fit = EnumSet.noneOf(GgmlType.class);
        for (GgmlType t : LATTICES) if (t == GgmlType.Q4_1 ? l.bits() <= 4 : t.holds(lowest) && t.holds(highest)) fit.add(t);
        return fit;
    }

    /** The type a linear is stored as under a target; F32 and F16 targets take everything. */
    static GgmlType type(GgmlType target, Lattice l, Set<GgmlType> numbers) {
        if (!target.codes()) return target;
        if (numbers.contains(target) && l.cols() % target.elements == 0 && spans(target, l)) return target;
        if (numbers.contains(target) && l.cols() % target.elements != 0 && LATTICES.contains(target)) {
            for (GgmlType t : LATTICES.subList(LATTICES.indexOf(target) + 1, LATTICES.size())) {
                if (numbers.contains(t) && spans(t, l)) return t;
            }
            return GgmlType.F32;
        }
        throw Fail.usage("%s", refusal(target, l, numbers));
    }

    /** Whether a group is whole blocks of a type. */
    private static boolean spans(GgmlType t, Lattice l) {
        return t == GgmlType.Q2_K ? l.group() == 16 : l.group() % t.elements == 0;
    }

    private static boolean halves(float[] values) {
        for (float v : values) if (Float.float16ToFloat(Float.floatToFloat16(v)) != v) return false;
        return true;
    }

    /** Why a target cannot hold a lattice, and what can. */
    private static String refusal(GgmlType target, Lattice l, Set<GgmlType> numbers) {
        if (target == GgmlType.Q2_K || l.minimum()) {
            return "%s (%d bits, group %d%s) does not fit gguf:%s, and a lattice of two levels or of minima fits only what it was trained for: put target: gguf:%s into the recipe, or round it again to another type with --requantize."
                    .formatted(l.name(), l.bits(), l.group(), l.minimum() ? ", with minima" : "", target.label(), target.label());
        }
        String why = numbers.contains(target) ? "its steps are shared by %d weights and %s has one for %d".formatted(l.group(), target, target.elements)
                : "its codes less their zero points go beyond %d to %d".formatted(target.lowest, target.highest);
        String fits = LATTICES.stream().filter(t -> numbers.contains(t) && l.group() % t.elements == 0)
                .map(t -> "gguf:" + t.label() + (t == GgmlType.Q4_1 ? " (minima rounded)" : "")).collect(Collectors.joining(", "));
        return "%s (%d bits, group %d) does not fit gguf:%s: %s. %s, or round it again with --requantize.".formatted(l.name(), l.bits(), l.group(),
                target.label(), why, fits.isEmpty() ? "gguf:f32 and gptq-v2 hold it exactly" : "It fits " + fits);
    }
}
