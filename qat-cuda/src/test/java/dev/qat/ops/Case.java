package dev.qat.ops;

import java.util.List;
import java.util.function.UnaryOperator;

/** One call of one op: every argument with what it holds. */
record Case(Row row, Size size, String label, List<Arg> args) {
    @SuppressWarnings("unchecked")
    <A extends Arg> A arg(String name) {
        return (A) args.stream().filter(a -> a.name().equals(name)).findFirst()
                .orElseThrow(() -> new IllegalArgumentException(this + " has no argument " + name));
    }

    <A extends Arg> List<A> all(Class<A> kind) {
        return args.stream().filter(kind::isInstance).map(kind::cast).toList();
    }

    /** This call with other floats in one argument. */
    Case with(String name, float... values) {
        return mapped(a -> a instanceof Arg.In in && a.name().equals(name) ? in.holding(values) : a);
    }

    Case mapped(UnaryOperator<Arg> f) {
        return new Case(row, size, label, args.stream().map(f).toList());
    }

    Case called(String other) {
        return new Case(row, size, other, args);
    }

    @Override
    public String toString() {
        return row + " " + size + (label.isEmpty() ? "" : " " + label);
    }
}
