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
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The rows of the op contract, in the order of {@link Backend}. */
final class OpTable {
    private static final List<Row> ROWS = new ArrayList<>();

    private OpTable() {}

    static List<Row> rows() {
        return List.copyOf(ROWS);
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
        put(back("accumulate", scale, f -> List.of(f.slope("x").exact(), f.of("y"), f.arg("s"))));
        put(row("sum", FLAT, s -> List.of(out("y", 1), in("x", s.at("n")), fixed("s", 0.7f))).depth(s -> s.at("n")));
    }

    // ---- the decoder -------------------------------------------------------------------------------------------------

    static {
        Row embed = put(row("embed", sizes("N V C", of(1, 1, 1), of(7, 3, 5), of(33, 50, 64), of(130, 17, 80)),
                s -> List.of(out("y", s.at("N"), s.at("C")).exact(), ints("ids", n -> n * n % s.at("V"), s.at("N")),
                        in("table", s.at("V"), s.at("C")))));
        put(back("embedBack", embed, f -> List.of(f.slope("table"), f.of("y"), f.arg("ids"))).depth(s -> s.at("N")));

        List<Size> products = sizes("N I O", of(1, 1, 1), of(3, 5, 7), of(2, 16, 48), of(65, 33, 17), of(31, 127, 64), of(130, 96, 200));
        Row linear = put(row("linear", products, s -> List.of(out("y", s.at("N"), s.at("O")), in("x", s.at("N"), s.at("I")).operand(),
                in("w", s.at("O"), s.at("I")).operand(), in("bias", s.at("O")), in("plus", s.at("N"), s.at("O")))).depth(s -> s.at("I")));
        put(row("linear", "product only", products, s -> List.of(out("y", s.at("N"), s.at("O")), in("x", s.at("N"), s.at("I")).operand(),
                in("w", s.at("O"), s.at("I")).operand(), fixed("bias", null), fixed("plus", null))).depth(s -> s.at("I")));
        put(back("linearBack", linear, f -> List.of(f.slope("x"), f.slope("w"), f.slope("bias"), f.of("y").operand(), f.arg("x"), f.arg("w")))
                .depth(s -> Math.max(s.at("N"), s.at("O"))));

        Row rmsnorm = put(row("rmsnorm", sizes("B H C", of(1, 1, 1), of(3, 1, 5), of(2, 4, 16), of(7, 3, 80), of(33, 1, 259)),
                s -> List.of(out("y", s.at("B"), s.at("H") * s.at("C")), out("rstd", s.at("B") * s.at("H")),
                        in("x", s.at("B"), s.at("H") * s.at("C")), in("gain", s.at("C")), fixed("eps", 1e-5f))).depth(s -> s.at("C")));
        put(back("rmsnormBack", rmsnorm, f -> List.of(f.slope("x"), f.slope("gain"), f.of("y"), f.arg("x"), f.arg("gain"), f.saved("rstd")))
                .depth(s -> s.at("C") * s.at("B") * s.at("H")));

        Row rope = put(row("rope", sizes("N H D Tmax", of(1, 1, 2, 1), of(7, 3, 8, 9), of(33, 2, 64, 40), of(5, 4, 80, 5), of(13, 1, 128, 20)),
                s -> List.of(out("y", s.at("N"), s.at("H") * s.at("D")), in("x", s.at("N"), s.at("H") * s.at("D")),
                        in("table", 2, s.at("Tmax"), s.at("D") / 2), ints("positions", n -> n * 5 % s.at("Tmax"), s.at("N")))));
        put(back("ropeBack", rope, f -> List.of(f.slope("x"), f.of("y"), f.arg("table"), f.arg("positions"))));
    }

    private static final List<Size> HEADS = sizes("B T H K D", of(1, 1, 1, 1, 2), of(2, 7, 2, 1, 8), of(1, 33, 4, 2, 16), of(1, 65, 4, 4, 32),
            of(2, 17, 2, 2, 128), of(1, 66, 2, 1, 80), of(1, 130, 4, 1, 64));

    private static Heads heads(Size s) {
        return new Heads(s.at("B"), s.at("T"), s.at("H"), s.at("K"), s.at("D"));
    }

    static {
        Row attention = put(row("attention", HEADS, s -> {
            int N = s.at("B") * s.at("T"), C = s.at("H") * s.at("D"), kv = s.at("K") * s.at("D");
            return List.of(out("o", N, C), out("lse", s.at("B"), s.at("H"), s.at("T")), in("q", N, C), in("k", N, kv), in("v", N, kv),
                    fixed("heads", heads(s)));
        }).depth(s -> s.at("T") + s.at("D")).product());
        attention.specials = Row.with(Special.COMMON, SHARP);
        put(back("attentionBack", attention, f -> List.of(f.slope("q"), f.slope("k"), f.slope("v"), scratch("delta", f.<Arg.Out>arg("lse").dims()),
                dy(f), f.saved("o"), f.saved("lse"), f.arg("q"), f.arg("k"), f.arg("v"), f.arg("heads"))));

        put(row("attentionCache", HEADS, s -> {
            int B = s.at("B"), T = s.at("T"), C = s.at("H") * s.at("D"), kv = s.at("K") * s.at("D");
            return List.of(out("o", B, C), in("q", B, C), in("k", B, T, kv), in("v", B, T, kv), ints("lengths", b -> b % 2 == 0 ? T : (T + 1) / 2, B),
                    fixed("heads", heads(s)));
        }).depth(s -> s.at("T") + s.at("D")).product()).specials = Row.with(Special.COMMON, SHARP);

        put(row("cacheWrite", sizes("B Tmax C", of(1, 1, 1), of(3, 7, 5), of(2, 33, 64), of(5, 4, 67)),
                s -> List.of(new Arg.Kept("cache", true, Values.normal("cache", s.at("B") * s.at("Tmax") * s.at("C")), s.at("B"), s.at("Tmax"), s.at("C")),
                        in("x", s.at("B"), s.at("C")), ints("positions", b -> (3 * b + s.at("Tmax") / 2) % s.at("Tmax"), s.at("B")))));

        Row swiglu = put(row("swiglu", FLAT, s -> List.of(out("y", s.at("n")), in("gate", s.at("n")), in("up", s.at("n")))));
        put(back("swigluBack", swiglu, f -> List.of(f.slope("gate"), f.slope("up"), f.of("y"), f.arg("gate"), f.arg("up"))));
    }
}
