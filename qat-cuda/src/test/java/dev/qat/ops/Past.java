package dev.qat.ops;

import dev.qat.cpu.ReferenceBackend;
import java.util.Map;

/** What a backward op is given: the arguments its forward read and, from the reference, what it gave. */
final class Past {
    private final Case forward;
    private Map<String, double[]> given;

    Past(Case forward) {
        this.forward = forward;
    }

    Case forward() {
        return forward;
    }

    Size size() {
        return forward.size();
    }

    /** An argument of the forward as it was. */
    <A extends Arg> A arg(String name) {
        return forward.arg(name);
    }

    /** An output of the forward, saved. */
    Arg.In saved(String name) {
        if (given == null) {
            try (Backend reference = new ReferenceBackend()) {
                given = new Bench(reference).run(forward);
            }
        }
        Arg.Out out = forward.arg(name);
        double[] v = given.get(name);
        return new Arg.In(name, false, Values.of(v.length, i -> v[i]), out.dims());
    }

    /** Some gradient dy of an output of the forward. */
    Arg.In dy(String output) {
        Arg.Out out = forward.arg(output);
        return Arg.in("dy", out.dims());
    }

    /** Scratch as large as an output of the forward. */
    Arg.Scratch scratchLike(String name, String output) {
        Arg.Out out = forward.arg(output);
        return Arg.scratch(name, out.dims());
    }

    /** Where the gradient of an input of the forward goes. */
    Arg.Slope slope(String name) {
        Arg.In in = forward.arg(name);
        return Arg.slope("d" + name, in.dims());
    }
}
