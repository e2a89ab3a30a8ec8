package dev.qat.ops;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;

/** One row of the op contract: an op, the sizes it is tried in, how its arguments are made for a size, what is special about it. */
final class Row {
    /** How a gradient is proven: by finite differences of the op, or of its straight-through surrogate. */
    enum Proof { SMOOTH, STRAIGHT_THROUGH }

    final String op;
    final String variant;
    /** The row whose op this one is the backward of; null for others. */
    final Row forward;
    final List<Size> sizes;
    private final Function<Past, List<Arg>> backArgs;
    private final Function<Size, List<Arg>> args;

    /** How many terms the op's longest sum has: tolerances grow with its root. */
    ToDoubleFunction<Size> depth = s -> 1;
    /** Whether a device may round inside the op to its operand type. */
    boolean product;
    /** Errors are never measured against less than this: for ops whose result is a small difference of large numbers. */
    double floor;
    /** How the gradients this op gives are proven; null where it gives none. */
    Proof proof;
    /** For a loss: its gradients are those of lossScale · Σ loss. */
    double lossScale;
    /** The values tried beside generic ones. */
    List<Special> specials = new ArrayList<>(Special.COMMON);
    /** Arguments that specials leave alone. */
    Set<String> untouched = Set.of();
    /** Arguments whose NaN reaches no output of this op; its forward has shown it. */
    Set<String> hides = Set.of();
    /** A gradient and the input whose memory it may be; null where there is none. */
    List<String> inPlace;

    private Row(String op, String variant, Row forward, List<Size> sizes, Function<Size, List<Arg>> args, Function<Past, List<Arg>> backArgs) {
        this.op = op;
        this.variant = variant;
        this.forward = forward;
        this.sizes = sizes;
        this.args = args;
        this.backArgs = backArgs;
    }

    static Row row(String op, List<Size> sizes, Function<Size, List<Arg>> args) {
        return row(op, "", sizes, args);
    }

    static Row row(String op, String variant, List<Size> sizes, Function<Size, List<Arg>> args) {
        return new Row(op, variant, null, sizes, args, null).also(Special.huge(1e6f));
    }

    /** The backward of a row: tried in its sizes and on its specials, with what it read and gave. */
    static Row back(String op, Row forward, Function<Past, List<Arg>> args) {
        Row r = new Row(op, forward.variant, forward, forward.sizes, null, args);
        r.depth = forward.depth;
        r.product = forward.product;
        r.specials = forward.specials;
        r.untouched = forward.untouched;
        r.proof = Proof.SMOOTH;
        return r;
    }

    Row depth(ToDoubleFunction<Size> terms) {
        depth = terms;
        return this;
    }

    Row product() {
        product = true;
        return this;
    }

    Row floor(double least) {
        floor = least;
        return this;
    }

    Row straightThrough() {
        proof = Proof.STRAIGHT_THROUGH;
        return this;
    }

    Row loss(double scale) {
        proof = Proof.SMOOTH;
        lossScale = scale;
        return this;
    }

    /** The common values and these, but not the huge ones. */
    Row notHugeBut(Special... these) {
        specials = Special.COMMON;
        return also(these);
    }

    Row also(Special... more) {
        specials = new ArrayList<>(specials);
        specials.addAll(List.of(more));
        return this;
    }

    Row untouched(String... names) {
        untouched = Set.of(names);
        return this;
    }

    Row hides(String... names) {
        hides = Set.of(names);
        return this;
    }

    Row inPlace(String gradient, String input) {
        inPlace = List.of(gradient, input);
        return this;
    }

    Case generic(Size size) {
        return build(size, Special.NONE);
    }

    /** The call of this size with special values; what a forward saved for its backward follows them. */
    Case build(Size size, Special special) {
        Set<String> fixed = new HashSet<>(untouched);
        List<Arg> made;
        if (forward == null) {
            made = args.apply(size);
        } else {
            Past past = new Past(forward.build(size, special));
            past.forward().args().forEach(a -> fixed.add(a.name()));
            made = backArgs.apply(past);
        }
        return new Case(this, size, special.name(), made).mapped(a -> fixed.contains(a.name()) ? a : with(special, a));
    }

    private static Arg with(Special special, Arg a) {
        return switch (a) {
            case Arg.In in -> in.holding(special.f().apply(in.name(), in.values()));
            case Arg.Kept k -> new Arg.Kept(k.name(), k.sameBits(), special.f().apply(k.name(), k.values()), k.dims());
            default -> a;
        };
    }

    @Override
    public String toString() {
        return variant.isEmpty() ? op : op + " (" + variant + ")";
    }
}
