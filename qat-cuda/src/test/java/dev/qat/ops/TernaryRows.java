package dev.qat.ops;

import static dev.qat.ops.Arg.fixed;
import static dev.qat.ops.Arg.in;
import static dev.qat.ops.Arg.out;
import static dev.qat.ops.Row.back;
import static dev.qat.ops.Row.row;
import static dev.qat.ops.Size.of;
import static dev.qat.ops.Size.sizes;
import static dev.qat.ops.Special.named;

import java.util.ArrayList;
import java.util.List;

/** The rows of the ternary ops. Groups divide a row, are the row, or hold several rows. */
final class TernaryRows {
    private static final List<Size> GROUPS = sizes("O I G", of(1, 1, 1), of(3, 5, 5), of(2, 12, 4), of(3, 96, 32), of(5, 66, 33), of(3, 8, 24), of(4, 6, 12), of(9, 256, 128), of(3, 30000, 90000));
    private static final List<Size> QUADS = sizes("O I G", of(1, 40000, 40000), of(1, 4, 4), of(2, 12, 4), of(3, 96, 32), of(5, 40, 8), of(2, 8, 16), of(3, 256, 128));

    /** Weights on the edge of the dead zone, at the clip, and the same ones again. */
    private static final Special TIES = Special.of("on the edge", named("w", i -> (i * 7 % 33 - 16) * 0.03125), named("scale", i -> 0.25), named("edge", i -> 0.125));
    private static final Special FAR = Special.scaled("w", 1e30f);
    private static final Special SMALL = Special.of("scales below the least", named("scale", i -> i % 2 == 0 ? 1e-7 : -0.5), named("w", i -> (i % 7 - 3) * 4e-6));

    private TernaryRows() {}

    private static Arg groups(String name, Size s, double low, double high) {
        int n = s.at("O") * s.at("I") / s.at("G");
        return new Arg.In(name, false, Values.between(name, n, low, high), n);
    }

    private static Arg scale(Size s) {
        return groups("scale", s, 0.4, 1.2);
    }

    private static Arg edge(Size s) {
        return groups("edge", s, 0.2, 0.8);
    }

    private static final Arg NONE = fixed("edge", null);

    private interface Make {
        Trits of(int group);
    }

    /** @param more the arguments edge, shift and residual */
    private static void weights(List<Row> rows, String variant, List<Size> sizes, Make trits, java.util.function.Function<Size, List<Arg>> more) {
        Row forward = row("ternary", variant, sizes, s -> {
            List<Arg> args = new ArrayList<>(List.of(out("y", s.at("O"), s.at("I")).operand().exact(), in("w", s.at("O"), s.at("I")), scale(s)));
            args.addAll(more.apply(s));
            args.add(fixed("trits", trits.of(s.at("G"))));
            return args;
        }).also(TIES, FAR, SMALL).hides("edge");
        rows.add(forward);
        rows.add(back("ternaryBack", forward, f -> List.of(f.slope("w").exact(), f.slope("scale"), f.arg("shift") instanceof Arg.In ? f.slope("shift") : fixed("dshift", Grad.NONE),
                f.dy("y"), f.arg("w"), f.arg("scale"), f.arg("edge"), f.arg("residual"), f.arg("trits")))
                .depth(s -> 4 * s.at("G")).straightThrough().inPlace("dw", "dy").hides("edge"));
    }

    private static void bias(List<Row> rows, String variant, boolean each, boolean sign, Make trits, java.util.function.Function<Size, Arg> edge) {
        Row forward = row("reactivate", variant, GROUPS.subList(1, GROUPS.size()), s -> List.of(out("bias", s.at("O")), out("dead", s.at("O")).exact(), each ? fixed("plus", null) : in("plus", s.at("O")),
                in("w", s.at("O"), s.at("I")), scale(s), edge.apply(s), each ? in("epsilon", s.at("O"), s.at("I")) : in("epsilon", s.at("O")),
                fixed("trits", trits.of(s.at("G"))), fixed("sign", sign))).also(TIES, SMALL).depth(s -> s.at("I")).hides("edge", "scale", "epsilon");
        rows.add(forward);
        rows.add(back("reactivateBack", forward, f -> List.of(f.slope("w").exact(), f.slope("epsilon"), f.dy("bias"), f.arg("w"), f.arg("scale"), f.arg("edge"), f.arg("epsilon"),
                f.arg("trits"), f.arg("sign"))).depth(s -> s.at("I")).straightThrough().hides("edge", "scale", "epsilon"));
    }

    static List<Row> rows() {
        List<Row> rows = new ArrayList<>();
        for (Threshold rule : Threshold.values()) {
            Row r = row("ternaryRange", rule.name(), rule == Threshold.QUADS ? QUADS : GROUPS, s -> {
                int n = s.at("O") * s.at("I") / s.at("G");
                return List.of(out("scale", n), out("edge", n), in("w", s.at("O"), s.at("I")), fixed("rule", rule), fixed("group", s.at("G")));
            }).depth(s -> s.at("G"));
            rows.add(rule == Threshold.MEDIAN || rule == Threshold.QUADS ? r.hides("w") : r); // the weight itself shows it
        }
        Arg shift = fixed("shift", null), residual = fixed("residual", null);
        weights(rows, "given", GROUPS, Trits::given, s -> List.of(edge(s), shift, residual));
        weights(rows, "LSQ", GROUPS, Trits::lsq, s -> List.of(NONE, shift, residual));
        weights(rows, "SEQ", GROUPS, g -> Trits.stretched(g, true), s -> List.of(NONE, shift, residual));
        weights(rows, "SEQ at two bits", GROUPS, Trits::stretchedFours, s -> List.of(NONE, shift, residual));
        weights(rows, "DLT, with a residual", GROUPS, Trits::lsq, s -> List.of(NONE, groups("shift", s, -0.3, 0.3), in("residual", 1).holding(0.25f)));
        weights(rows, "quads", QUADS, Trits::quads, s -> List.of(edge(s), shift, in("residual", 1).holding(0.25f)));
        bias(rows, "a row's epsilon", false, false, Trits::given, TernaryRows::edge);
        bias(rows, "a weight's epsilon", true, false, Trits::given, TernaryRows::edge);
        bias(rows, "learned scales", false, false, Trits::lsq, _ -> NONE);
        bias(rows, "signs", false, true, Trits::given, TernaryRows::edge);
        bias(rows, "signs, a weight's epsilon", true, true, Trits::lsq, _ -> NONE);
        return rows;
    }
}
