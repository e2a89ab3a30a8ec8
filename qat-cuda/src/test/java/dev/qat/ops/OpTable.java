package dev.qat.ops;

import static dev.qat.ops.Arg.codes;
import static dev.qat.ops.Arg.fixed;
import static dev.qat.ops.Arg.in;
import static dev.qat.ops.Arg.ints;
import static dev.qat.ops.Arg.kept;
import static dev.qat.ops.Arg.out;
import static dev.qat.ops.Arg.scratch;
import static dev.qat.ops.Arg.slope;
import static dev.qat.ops.Row.back;
import static dev.qat.ops.Row.row;
import static dev.qat.ops.Size.of;
import static dev.qat.ops.Size.sizes;
import static dev.qat.ops.Special.named;

import dev.qat.tensor.DType;
import dev.qat.tensor.PackedWeight;
import java.util.ArrayList;
import java.util.List;

/** The rows of the op contract, in the order of {@link Backend}. */
final class OpTable {
    private static final List<Row> ROWS = new ArrayList<>();

    private OpTable() {}

    /** All of them; with -Dqat.rows=PATTERN, to work on an op, those whose op matches. */
    static List<Row> rows() {
        String pattern = System.getProperty("qat.rows", "");
        return ROWS.stream().filter(r -> pattern.isEmpty() || r.op.matches(pattern)).toList();
    }

    private static Row put(Row row) {
        ROWS.add(row);
        return row;
    }

    private static final List<Size> FLAT = sizes("n", of(1), of(3), of(16), of(67), of(1000), of(4099));

    // ---- moving and adding -------------------------------------------------------------------------------------------

    private static final Special ROUNDING = Special.of("between two BF16 numbers", named("x", i -> switch (i % 5) {
        case 0 -> 1 + 0x1p-8;           // a tie, down to the even 1
        case 1 -> 1 + 3 * 0x1p-8;       // a tie, up to the even 1 + 2⁻⁶
        case 2 -> -(1 + 0x1p-8 + 0x1p-20);
        case 3 -> (double) Float.MAX_VALUE;
        default -> 1e-40;
    }));

    static {
        put(row("copy", FLAT, s -> List.of(out("y", s.at("n")).exact(), in("x", s.at("n")))));
        put(row("copy", "to operands", FLAT, s -> List.of(out("y", s.at("n")).operand().exact(), in("x", s.at("n")))).also(ROUNDING));
        put(row("copy", "from operands", FLAT, s -> List.of(out("y", s.at("n")).exact(), in("x", s.at("n")).operand())));
        put(row("fill", FLAT, s -> List.of(out("y", s.at("n")).exact(), fixed("v", 0.1f))));
        put(row("add", FLAT, s -> List.of(out("y", s.at("n")).exact(), in("a", s.at("n")), in("b", s.at("n")))));
        Row scale = put(row("scale", FLAT, s -> List.of(out("y", s.at("n")).exact(), in("x", s.at("n")), fixed("s", -0.3f))));
        put(back("accumulate", scale, f -> List.of(f.slope("x").exact(), f.dy("y"), f.arg("s"))));
        put(row("sum", FLAT, s -> List.of(out("y", 1), in("x", s.at("n")), fixed("s", 0.7f))).depth(s -> s.at("n")));
    }

    // ---- the decoder -------------------------------------------------------------------------------------------------

    static {
        Row embed = put(row("embed", sizes("N V C", of(1, 1, 1), of(7, 3, 5), of(33, 50, 64), of(130, 17, 80)),
                s -> List.of(out("y", s.at("N"), s.at("C")).exact(), ints("ids", n -> n * n % s.at("V"), s.at("N")),
                        in("table", s.at("V"), s.at("C")))));
        put(back("embedBack", embed, f -> List.of(f.slope("table"), f.dy("y"), f.arg("ids")))).depth(s -> s.at("N"));
    }

    private static final List<Size> PRODUCTS = sizes("N I O", of(1, 1, 1), of(3, 5, 7), of(2, 16, 48), of(65, 33, 17), of(31, 127, 64), of(66, 96, 130));

    static {
        Row linear = put(row("linear", PRODUCTS, s -> List.of(out("y", s.at("N"), s.at("O")), in("x", s.at("N"), s.at("I")).operand(),
                in("w", s.at("O"), s.at("I")).operand(), in("bias", s.at("O")), in("plus", s.at("N"), s.at("O"))))).depth(s -> s.at("I"));
        put(row("linear", "product only", PRODUCTS, s -> List.of(out("y", s.at("N"), s.at("O")), in("x", s.at("N"), s.at("I")).operand(),
                in("w", s.at("O"), s.at("I")).operand(), fixed("bias", null), fixed("plus", null)))).depth(s -> s.at("I"));
        put(back("linearBack", linear, f -> List.of(f.slope("x"), f.slope("w"), f.slope("bias"), f.dy("y").operand(), f.arg("x"), f.arg("w"))))
                .depth(s -> Math.max(s.at("N"), s.at("O")));

        Row rmsnorm = put(rmsnorm("", false));
        put(rmsnorm("to operands", true)).product();
        put(back("rmsnormBack", rmsnorm, f -> List.of(f.slope("x"), f.slope("gain"), f.dy("y"), f.arg("x"), f.arg("gain"), f.saved("rstd"))))
                .depth(s -> s.at("C") + s.at("B") * s.at("H"));

        for (int power : new int[] {1, -1}) {
            Row plain = put(rmsScale(power == 1 ? "" : "inverse", power, false));
            put(rmsScale(power == 1 ? "plus" : "inverse, plus", power, true));
            put(back("rmsScaleBack", plain, f -> List.of(f.slope("u"), f.slope("x"), f.dy("y"), f.arg("u"), f.arg("x"), f.arg("eps"), f.arg("power"))))
                    .depth(s -> s.at("C") + s.at("U"));
        }

        Row rope = put(row("rope", sizes("N H D Tmax", of(1, 1, 2, 1), of(7, 3, 8, 9), of(33, 2, 64, 40), of(5, 4, 80, 5), of(13, 1, 128, 20)),
                s -> List.of(out("y", s.at("N"), s.at("H") * s.at("D")), in("x", s.at("N"), s.at("H") * s.at("D")),
                        in("table", 2, s.at("Tmax"), s.at("D") / 2), ints("positions", n -> n * 5 % s.at("Tmax"), s.at("N")))));
        put(back("ropeBack", rope, f -> List.of(f.slope("x"), f.dy("y"), f.arg("table"), f.arg("positions"))));
    }

    private static Row rmsnorm(String variant, boolean operand) {
        return row("rmsnorm", variant, sizes("B H C", of(1, 1, 1), of(3, 1, 5), of(2, 4, 16), of(7, 3, 80), of(33, 1, 259)), s -> {
            Arg.Out y = out("y", s.at("B"), s.at("H") * s.at("C"));
            return List.of(operand ? y.operand() : y, out("rstd", s.at("B") * s.at("H")), in("x", s.at("B"), s.at("H") * s.at("C")).awayFromZero(),
                    in("gain", s.at("C")), fixed("eps", 1e-5f));
        }).depth(s -> s.at("C")).notHugeBut(Special.scaled("x", 1e6f));
    }

    private static Row rmsScale(String variant, int power, boolean plus) {
        return row("rmsScale", variant, sizes("N U C", of(1, 1, 1), of(3, 5, 3), of(7, 16, 80), of(33, 259, 67)), s -> {
            int N = s.at("N"), U = s.at("U");
            return List.of(out("y", N, U), in("u", N, U), in("x", N, s.at("C")).awayFromZero(), plus ? in("plus", N, U) : fixed("plus", null), fixed("eps", 1e-5f), fixed("power", power));
        }).depth(s -> s.at("C")).notHugeBut(Special.scaled("x", 1e6f));
    }

    private static final List<Size> HEADS = sizes("B T H K D", of(1, 1, 1, 1, 2), of(2, 7, 2, 1, 8), of(1, 33, 4, 2, 64), of(1, 65, 4, 1, 16),
            of(2, 17, 2, 2, 128), of(1, 66, 2, 1, 80), of(1, 130, 2, 2, 32));

    private static Heads heads(Size s) {
        return new Heads(s.at("B"), s.at("T"), s.at("H"), s.at("K"), s.at("D"));
    }

    static {
        for (boolean operand : new boolean[] {false, true}) {
            Row attention = put(row("attention", operand ? "to operands" : "", HEADS, s -> {
                int N = s.at("B") * s.at("T"), C = s.at("H") * s.at("D"), kv = s.at("K") * s.at("D");
                return List.of(operand ? out("o", N, C).operand() : out("o", N, C), out("lse", s.at("B"), s.at("H"), s.at("T")), in("q", N, C), in("k", N, kv),
                        in("v", N, kv), fixed("heads", heads(s)));
            })).depth(s -> s.at("T") + s.at("D")).product().notHugeBut(Special.scaled("q", 16));
            put(back("attentionBack", attention, f -> List.of(f.slope("q"), f.slope("k"), f.slope("v"), f.scratchLike("delta", "lse"), f.dy("o"),
                    operand ? f.saved("o").operand() : f.saved("o"), f.saved("lse"), f.arg("q"), f.arg("k"), f.arg("v"), f.arg("heads"))));
        }

        put(row("attentionCache", HEADS, s -> {
            int B = s.at("B"), T = s.at("T"), C = s.at("H") * s.at("D"), kv = s.at("K") * s.at("D");
            return List.of(out("o", B, C), in("q", B, C), in("k", B, T, kv), in("v", B, T, kv), ints("lengths", b -> b % 2 == 0 ? T : (T + 1) / 2, B),
                    fixed("heads", heads(s)));
        })).depth(s -> s.at("T") + s.at("D")).product().notHugeBut(Special.scaled("q", 16));

        put(row("cacheWrite", sizes("B Tmax C", of(1, 1, 1), of(3, 7, 5), of(2, 33, 64), of(5, 4, 67)),
                s -> List.of(kept("cache", s.at("B"), s.at("Tmax"), s.at("C")).exact(), in("x", s.at("B"), s.at("C")),
                        ints("positions", b -> (3 * b + s.at("Tmax") / 2) % s.at("Tmax"), s.at("B"))))).hides("cache");

        put(row("swiglu", "to operands", FLAT, s -> List.of(out("y", s.at("n")).operand(), in("gate", s.at("n")), in("up", s.at("n"))))).product();
        Row swiglu = put(row("swiglu", FLAT, s -> List.of(out("y", s.at("n")), in("gate", s.at("n")), in("up", s.at("n")))));
        put(back("swigluBack", swiglu, f -> List.of(f.slope("gate"), f.slope("up"), f.dy("y"), f.arg("gate"), f.arg("up"))));
    }

    // ---- losses ------------------------------------------------------------------------------------------------------

    private static final List<Size> HEAD = sizes("N C Ct V chunk", of(1, 1, 1, 1, 1), of(3, 5, 2, 7, 2), of(7, 16, 33, 33, 7), of(33, 24, 8, 130, 16),
            of(20, 64, 48, 259, 6));

    private static final float WEIGHT = 0.5f;

    private static Arg targets(Size s) {
        return ints("targets", n -> n % 4 == 1 ? -1 : n * 7 % s.at("V"), s.at("N"));
    }

    private static Row distill(String variant, Divergence divergence) {
        return row("distill", variant, HEAD, s -> List.of(out("loss", s.at("N")), slope("dx", s.at("N"), s.at("C")), slope("dw", s.at("V"), s.at("C")),
                scratch("logits", s.at("chunk"), s.at("V")), scratch("tlogits", s.at("chunk"), s.at("V")),
                in("x", s.at("N"), s.at("C")).operand(), in("w", s.at("V"), s.at("C")).operand(),
                in("tx", s.at("N"), s.at("Ct")).operand(), in("tw", s.at("V"), s.at("Ct")).operand(),
                targets(s), fixed("divergence", divergence), fixed("weight", WEIGHT))).depth(OpTable::headDepth).product().floor(1).loss(WEIGHT);
    }

    private static double headDepth(Size s) {
        return s.at("N") + s.at("C") + s.at("V");
    }

    static {
        put(row("crossEntropy", HEAD, s -> List.of(out("loss", s.at("N")), slope("dx", s.at("N"), s.at("C")), slope("dw", s.at("V"), s.at("C")),
                scratch("logits", s.at("chunk"), s.at("V")), in("x", s.at("N"), s.at("C")).operand(), in("w", s.at("V"), s.at("C")).operand(),
                targets(s), fixed("weight", WEIGHT)))).depth(OpTable::headDepth).product().floor(1).loss(WEIGHT);
        put(distill("KL", Divergence.KL));
        put(distill("mixed", new Divergence(false, 0.3f, 0, 1)));
        put(distill("warm Jensen-Shannon", new Divergence(true, 0, 0, 2)));
        put(distill("all at once", new Divergence(false, 0.7f, 0.25f, 1.5f)));
        put(row("compare", HEAD, s -> List.of(out("stats", s.at("N"), 3),
                scratch("logits", s.at("chunk"), s.at("V")), scratch("tlogits", s.at("chunk"), s.at("V")),
                in("x", s.at("N"), s.at("C")).operand(), in("w", s.at("V"), s.at("C")).operand(),
                in("tx", s.at("N"), s.at("Ct")).operand(), in("tw", s.at("V"), s.at("Ct")).operand(), targets(s)))).depth(OpTable::headDepth).product().floor(1);
        put(row("mse", FLAT, s -> List.of(out("loss", 1), slope("dx", s.at("n")), in("x", s.at("n")), in("target", s.at("n")))))
                .depth(s -> s.at("n")).loss(1);
    }

    // ---- quantizers --------------------------------------------------------------------------------------------------

    private static final List<Size> GRIDS = sizes("O I G bits", of(1, 1, 1, 2), of(3, 5, 5, 2), of(2, 12, 4, 3), of(3, 96, 32, 3), of(5, 66, 33, 5),
            of(33, 48, 16, 8), of(7, 64, 1, 4), of(9, 256, 128, 2));

    private static Grid grid(Size s) {
        return new Grid(s.at("bits"), s.at("G"));
    }

    private static Arg.In step(Size s) {
        int groups = s.at("O") * s.at("I") / s.at("G");
        return new Arg.In("step", false, Values.between("step", groups, 0.05, 0.5), s.at("O"), s.at("I") / s.at("G"));
    }

    private static Arg.In zero(Size s) {
        int groups = s.at("O") * s.at("I") / s.at("G");
        return new Arg.In("zero", false, Values.between("zero", groups, -1, 1 << s.at("bits")), s.at("O"), s.at("I") / s.at("G"));
    }

    private static Arg.In minimum(Size s) {
        int groups = s.at("O") * s.at("I") / s.at("G");
        return new Arg.In("zero", false, Values.between("minimum", groups, -2, 0), s.at("O"), s.at("I") / s.at("G"));
    }

    /** Ties of FP16 and BF16, their subnormals, and numbers around 1e-4, 0 and the largest. */
    private static final Special HALVES = Special.of("between two halves", named("x", i -> (i % 3 == 0 ? -1 : 1) * switch (i % 8) {
        case 0 -> 1 + 0x1p-11;
        case 1 -> 1 + 3 * 0x1p-11;
        case 2 -> 1 + 0x1p-8;
        case 3 -> 0x1.8p-24;
        case 4 -> 0x1.ffffp-15;
        case 5 -> 1e-4;
        case 6 -> 9999.5;
        default -> 0.1 * i;
    }));

    private static Row snap(String variant, Snap how) {
        return row("snap", variant, FLAT, s -> List.of(out("y", s.at("n")).exact(), in("x", s.at("n")), fixed("how", how))).also(HALVES);
    }

    /** Steps and weights whose quotients are all multiples of a half: ties of the rounding and both ends of the grid. */
    private static final Special TIES = Special.of("on ties and ends", named("w", i -> (i * 7 % 81 - 40) * 0.125), named("step", i -> 0.25),
            named("zero", i -> i % 7 * 0.5 - 0.5));
    private static final Special CLAMPED = Special.of("steps beyond their range", named("step", i -> i % 2 == 0 ? 1e-6 : 1e6),
            named("w", i -> (i % 5 - 2) * (i % 2 == 0 ? 1e-4 : 1e4)));
    private static final Special FAR = Special.scaled("w", 1e30f);

    static {
        put(row("groupRange", GRIDS, s -> List.of(out("step", s.at("O"), s.at("I") / s.at("G")).exact(), out("zero", s.at("O"), s.at("I") / s.at("G")).exact(),
                in("w", s.at("O"), s.at("I")), fixed("grid", grid(s))))).also(TIES, FAR);
        for (Grid.Offset offset : List.of(Grid.Offset.MIDDLE, Grid.Offset.ONE, Grid.Offset.MINIMUM)) {
            put(row("groupRange", offset.name(), GRIDS, s -> List.of(out("step", s.at("O"), s.at("I") / s.at("G")).exact(),
                    out("zero", s.at("O"), s.at("I") / s.at("G")).exact(), in("w", s.at("O"), s.at("I")),
                    fixed("grid", new Grid(s.at("bits"), s.at("G"), offset))))).also(TIES, FAR);
        }
        Row fakeQuant = put(row("fakeQuant", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).operand().exact(), in("w", s.at("O"), s.at("I")), step(s), zero(s),
                fixed("grid", grid(s))))).also(TIES, CLAMPED, FAR);
        put(back("fakeQuantBack", fakeQuant, f -> List.of(f.slope("w").exact(), f.slope("step"), f.slope("zero"), f.dy("y"), f.arg("w"), f.arg("step"),
                f.arg("zero"), f.arg("grid")))).depth(s -> s.at("G") * (1 << s.at("bits"))).straightThrough().inPlace("dw", "dy");
        Row minimum = put(row("fakeQuant", "minimum", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).operand().exact(), in("w", s.at("O"), s.at("I")),
                step(s), minimum(s), fixed("grid", new Grid(s.at("bits"), s.at("G"), Grid.Offset.MINIMUM))))).also(TIES, CLAMPED, FAR);
        put(back("fakeQuantBack", minimum, f -> List.of(f.slope("w").exact(), f.slope("step"), f.slope("zero"), f.dy("y"), f.arg("w"), f.arg("step"),
                f.arg("zero"), f.arg("grid")))).depth(s -> s.at("G") * (1 << s.at("bits"))).straightThrough().inPlace("dw", "dy");
        put(row("pack", "minimum", GRIDS, s -> List.of(codes("packed", true, s.at("O"), s.at("I"), s.at("bits"), s.at("G")).withMinimum(),
                in("w", s.at("O"), s.at("I")), step(s), minimum(s)))).also(TIES, CLAMPED, FAR).hides("w");
        put(row("pack", GRIDS, s -> List.of(codes("packed", true, s.at("O"), s.at("I"), s.at("bits"), s.at("G")), in("w", s.at("O"), s.at("I")),
                step(s), zero(s)))).also(TIES, CLAMPED, FAR).hides("w");

        Row dequantize = put(row("dequantize", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).operand().exact(),
                codes("packed", false, s.at("O"), s.at("I"), s.at("bits"), s.at("G")), step(s))));
        put(back("dequantizeBack", dequantize, f -> List.of(f.slope("step"), f.dy("y"), f.arg("packed")))).depth(s -> s.at("G") * (1 << s.at("bits")));
        Row narrow = put(row("dequantize", "zero points in bytes", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).operand().exact(),
                codes("packed", false, s.at("O"), s.at("I"), s.at("bits"), s.at("G")).inBytes(), step(s)))).hides("packed");
        put(back("dequantizeBack", narrow, f -> List.of(f.slope("step"), f.dy("y"), f.arg("packed")))).depth(s -> s.at("G") * (1 << s.at("bits"))).hides("packed");

        Row raised = put(row("dequantize", "minimum", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).operand().exact(),
                codes("packed", false, s.at("O"), s.at("I"), s.at("bits"), s.at("G")).withMinimum(), step(s))));
        put(back("dequantizeBack", raised, f -> List.of(f.slope("step"), f.dy("y"), f.arg("packed")))).depth(s -> s.at("G") * (1 << s.at("bits"))).hides("packed");

        for (Snap.Half half : Snap.Half.values()) {
            put(snap("steps as " + half, Snap.steps(half)));
            put(snap("minima as " + half, Snap.minima(half)));
            put(snap("steps of two levels, " + half, Snap.steps(half).twoLevels()));
            put(snap("minima of two levels, " + half, Snap.minima(half).twoLevels()));
        }
        put(snap("zero points", Snap.range(1, 3)));

        Row lsq = put(row("lsq", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).exact(), in("w", s.at("O"), s.at("I")), step(s),
                fixed("grid", grid(s))))).also(TIES, FAR);
        put(back("lsqBack", lsq, f -> List.of(f.slope("w").exact(), f.slope("step"), f.dy("y"), f.arg("w"), f.arg("step"), f.arg("grid"))))
                .depth(s -> s.at("G") * (1 << s.at("bits"))).straightThrough().inPlace("dw", "dy");

        for (boolean symmetric : new boolean[] {true, false}) {
            List<Size> caches = sizes("B Tmax M C bits", of(1, 1, 1, 1, 2), of(3, 7, 2, 5, 3), of(2, 33, 1, 64, 4), of(5, 4, 1, 67, 8), of(2, 3, 3, 80, 16), of(4, 5, 4, 40, 4), of(2, 6, 5, 12, 4));
            int numbers = symmetric ? 1 : 2;
            // one place per sequence, so that everything is written; IntegerCacheTest writes among others
            put(row("cachePack", symmetric ? "symmetric" : "asymmetric", sizes("B M C bits", of(1, 1, 1, 2), of(3, 2, 5, 3), of(2, 1, 64, 4), of(5, 1, 67, 8), of(2, 3, 80, 16), of(4, 4, 40, 4), of(2, 5, 12, 4)), s -> List.of(
                    new Arg.Out("codes", DType.I32, true, s.at("B"), 1, s.at("M") * PackedWeight.wordsPerRow(s.at("C"), s.at("bits"))), out("scales", s.at("B"), 1, s.at("M") * numbers).exact(),
                    in("x", s.at("B"), s.at("M") * s.at("C")), ints("positions", _ -> 0, s.at("B")), fixed("grid", new RowGrid(s.at("bits"), symmetric, false)))));
            put(row("cacheUnpack", symmetric ? "symmetric" : "asymmetric", caches, s -> List.of(kept("y", s.at("B"), s.at("Tmax"), s.at("M") * s.at("C")).exact(),
                    ints("codes", i -> 0x9E3779B9 * (i + 1), s.at("B"), s.at("Tmax"), s.at("M") * PackedWeight.wordsPerRow(s.at("C"), s.at("bits"))), in("scales", s.at("B"), s.at("Tmax"), s.at("M") * numbers),
                    ints("lengths", b -> b % 2 == 0 ? s.at("Tmax") : (s.at("Tmax") + 1) / 2, s.at("B")), fixed("grid", new RowGrid(s.at("bits"), symmetric, false))))).hides("y");
            for (boolean window : new boolean[] {true, false}) {
                String variant = (symmetric ? "symmetric" : "asymmetric") + (window ? ", window" : "");
                Row rowQuant = put(row("rowQuant", variant, sizes("N C bits", of(1, 1, 2), of(3, 5, 2), of(2, 16, 3), of(7, 33, 4), of(5, 127, 8), of(33, 80, 16)),
                        s -> List.of(out("y", s.at("N"), s.at("C")).exact(), in("x", s.at("N"), s.at("C")), fixed("grid", new RowGrid(s.at("bits"), symmetric, window)))))
                        .also(Special.scaled("x", 1e30f), Special.of("at the window", named("x", i -> switch (i % 4) {
                            case 0 -> -2.0;
                            case 1 -> 2.0;
                            case 2 -> (double) Math.nextDown(2f);
                            default -> -1.5;
                        })));
                put(back("rowQuantBack", rowQuant, f -> List.of(f.slope("x").exact(), f.dy("y"), f.arg("x"), f.arg("grid"))))
                        .straightThrough().hides("x").inPlace("dx", "dy");
            }
        }
    }

    static {
        Row minMax = put(row("minMaxQuant", GRIDS, s -> List.of(out("y", s.at("O"), s.at("I")).operand().exact(), in("w", s.at("O"), s.at("I")), fixed("grid", grid(s)))))
                .also(TIES, FAR);
        put(back("minMaxQuantBack", minMax, f -> List.of(f.slope("w"), f.dy("y"), f.arg("w"), f.arg("grid")))).depth(s -> s.at("G") * (1 << s.at("bits")))
                .straightThrough().hides("w").inPlace("dw", "dy");
    }

    // ---- transforms --------------------------------------------------------------------------------------------------

    static {
        for (int power : new int[] {1, -1}) {
            Row scale = put(row("channelScale", power == 1 ? "" : "inverse", sizes("N K D g", of(1, 1, 1, 1), of(3, 1, 5, 1), of(7, 2, 8, 3), of(130, 3, 16, 2), of(33, 1, 259, 1)),
                    s -> {
                        int scales = s.at("K") * s.at("D"), C = scales * s.at("g");
                        return List.of(out("y", s.at("N"), C), in("x", s.at("N"), C), in("tau", scales), fixed("how", new Channels(s.at("D"), s.at("g"), power)));
                    })).notHugeBut(Special.scaled("x", 1e6f));
            put(back("channelScaleBack", scale, f -> List.of(f.slope("x"), f.slope("tau"), f.dy("y"), f.arg("x"), f.arg("tau"), f.arg("how"))))
                    .depth(s -> s.at("N") * s.at("g"));
        }
        Row hadamard = put(row("hadamard", sizes("N m size apart", of(1, 1, 1, 1), of(3, 2, 2, 1), of(5, 3, 8, 1), of(2, 1, 64, 1), of(7, 1, 256, 1), of(1, 1, 2048, 1),
                of(2, 1, 1, 3), of(3, 2, 4, 5), of(2, 1, 8, 64), of(3, 1, 2, 33)), s -> List.of(out("y", s.at("N"), s.at("m") * s.at("size") * s.at("apart")),
                in("x", s.at("N"), s.at("m") * s.at("size") * s.at("apart")), fixed("size", s.at("size")), fixed("apart", s.at("apart"))))).depth(s -> s.at("size"));
        put(back("hadamardBack", hadamard, f -> List.of(f.slope("x"), f.dy("y"), f.arg("size"), f.arg("apart"))));
        for (boolean transposed : new boolean[] {false, true}) {
            Row mix = put(row("mixHeads", transposed ? "transposed" : "", sizes("P K g D Q", of(1, 1, 1, 1, 1), of(5, 2, 2, 4, 1), of(1, 2, 3, 6, 7), of(3, 1, 2, 8, 5), of(67, 2, 1, 16, 1), of(1, 3, 1, 16, 130)),
                    s -> {
                        int K = s.at("K"), D = s.at("D"), all = K * s.at("g") * D * s.at("Q");
                        return List.of(out("y", s.at("P"), all), in("x", s.at("P"), all), in("m", K * D, D), fixed("how", new Mix(s.at("g"), s.at("Q"), transposed)));
                    })).depth(s -> s.at("D"));
            put(back("mixHeadsBack", mix, f -> List.of(f.slope("x"), f.slope("m"), f.dy("y"), f.arg("x"), f.arg("m"), f.arg("how"))))
                    .depth(s -> Math.max(s.at("D"), s.at("P") * s.at("g") * s.at("Q")));
        }
    }

    static {
        ROWS.addAll(TernaryRows.rows());
    }

    // ---- optimizer ---------------------------------------------------------------------------------------------------

    private static Row adamw(String variant, double maxNorm, Arg squares) {
        return row("adamw", variant, FLAT, s -> List.of(kept("p", s.at("n")), in("g", s.at("n")), kept("m", s.at("n")),
                new Arg.Kept("v", false, Values.between("v", s.at("n"), 0, 2), s.at("n")),
                in("hyper", 8).holding(1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 1 / (1 - 0.9f * 0.9f), 1 / (1 - 0.999f * 0.999f), (float) maxNorm), squares))
                .untouched("hyper", "squares", "v");
    }

    static {
        put(row("sumSquares", FLAT, s -> List.of(kept("y", 1), in("x", s.at("n"))))).depth(s -> s.at("n"));
        // a norm that is NaN changes nothing, so that of these it is the one that hides it
        put(adamw("clipping", 1, in("squares", 1).holding(9))).hides("squares");
        put(adamw("below the norm", 5, in("squares", 1).holding(9))).hides("squares");
        put(adamw("an infinite norm", 1, in("squares", 1).holding(Float.POSITIVE_INFINITY))).hides("squares", "g", "hyper");
        put(adamw("not clipping", 0, in("squares", 1).holding(9))).hides("squares");
        put(adamw("without a norm", 1, fixed("squares", null)));
    }

    // ---- random numbers ----------------------------------------------------------------------------------------------

    private static Row sample(String variant, Sampling sampling) {
        return row("sample", variant, sizes("B V", of(1, 1), of(3, 7), of(5, 33), of(64, 257), of(2, 5003)), s -> List.of(
                new Arg.Out("ids", DType.I32, true, s.at("B")), in("logits", s.at("B"), s.at("V")), ints("keys", i -> i % 2 == 0 ? i : 1000 - i, s.at("B"), 2),
                fixed("sampling", sampling)));
    }

    static {
        put(row("uniform", FLAT, s -> List.of(out("y", s.at("n")).exact(), ints("key", i -> 0x9E3779B9 * (i + s.at("n")), 4))));
        put(sample("greedy", Sampling.GREEDY));
        put(sample("plain", new Sampling(1, 0, 1, 7)));
        put(sample("cool, top 5", new Sampling(0.7f, 5, 1, -12345678901234L)));
        put(sample("warm, nucleus", new Sampling(1.3f, 0, 0.8f, 1L << 40)));
        put(sample("top 20, nucleus", new Sampling(1, 20, 0.5f, 3)));
    }
}
