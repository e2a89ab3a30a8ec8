package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.ops.Bench.Manner;
import dev.qat.tensor.DType;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What every row of the contract is held to on every backend. */
final class OpContract {
    private final Candidate candidate;
    private final Bench bench;
    private final Backend reference;
    private final Bench truth;
    private int checks;

    OpContract(Candidate candidate, Backend backend) {
        this(candidate, backend, new ReferenceBackend(backend.operand()));
    }

    OpContract(Candidate candidate, Backend backend, Backend reference) {
        this.candidate = candidate;
        this.bench = new Bench(backend);
        this.reference = reference;
        this.truth = new Bench(reference);
    }

    /** Holds the backend to all of a row and returns how many numbers were compared. */
    int check(Row row) {
        checks = 0;
        try {
            for (Size size : row.sizes) {
                Case c = row.generic(size);
                Map<String, double[]> expected = truth.run(c), got = bench.run(c);
                compare(c, expected, got, 1);
                noneIsNaN(c, expected);
                sameBitsTwice(c, got);
                inShiftedMemory(c, expected);
                addsToWhatIsThere(c, got);
                freezes(c, got);
                worksInPlace(c, got);
                for (Special special : row.specials) onSpecials(row.build(size, special), special);
                showsNaN(c);
            }
            gradientIsAlive(row.generic(row.sizes.getLast()));
        } finally {
            reference.close();
        }
        return checks;
    }

    private void onSpecials(Case c, Special special) {
        compare(c, truth.run(c), bench.run(c), special.scale());
    }

    private void sameBitsTwice(Case c, Map<String, double[]> once) {
        Map<String, double[]> twice = bench.run(c);
        once.forEach((name, bits) -> assertTrue(Arrays.equals(bits, twice.get(name)), where(c) + name + " differs from one run to the next"));
    }

    private void inShiftedMemory(Case c, Map<String, double[]> expected) {
        compare(c.called("in shifted memory"), expected, bench.run(c, Manner.SHIFTED), 1);
    }

    /** Grad(add) gives what was there plus what it writes elsewhere; what is not a gradient stays the same. */
    private void addsToWhatIsThere(Case c, Map<String, double[]> written) {
        if (c.all(Arg.Slope.class).isEmpty()) return;
        Case adding = c.called("adding");
        Map<String, double[]> added = bench.run(c, Manner.ADD);
        for (Arg.Slope d : c.all(Arg.Slope.class)) {
            float[] old = Bench.old(d);
            double[] sum = written.get(d.name()).clone();
            for (int i = 0; i < sum.length; i++) sum[i] += old[i];
            close(adding, d.name(), sum, added.get(d.name()), limit(adding, Math.max(1, largest(sum)), false));
        }
    }

    /** A frozen gradient changes no bit of the others. */
    private void freezes(Case c, Map<String, double[]> all) {
        if (c.row().proof == null) return;
        Set<String> names = new HashSet<>();
        c.all(Arg.Slope.class).forEach(d -> names.add(d.name()));
        for (String frozen : names) freeze(c, all, Set.of(frozen));
        if (names.size() > 1) freeze(c, all, names);
    }

    private void freeze(Case c, Map<String, double[]> all, Set<String> frozen) {
        Map<String, double[]> rest = bench.run(c, Manner.frozen(frozen));
        rest.forEach((name, bits) -> assertTrue(Arrays.equals(bits, all.get(name)), where(c) + name + " changed when " + frozen + " was frozen"));
        checks++;
    }

    private void worksInPlace(Case c, Map<String, double[]> apart) {
        if (c.row().inPlace == null) return;
        bench.run(c, Manner.IN_PLACE).forEach((name, bits) ->
                assertTrue(Arrays.equals(bits, apart.get(name)), where(c) + name + " differs when " + c.row().inPlace + " are one memory"));
        checks++;
    }

    /** One NaN at the beginning of an input is seen in some output; a token cannot be NaN and is −1. */
    private void showsNaN(Case c) {
        for (Arg a : c.args()) {
            if (c.row().hides.contains(a.name())) continue;
            Case poisoned = c.mapped(b -> b == a ? poisoned(b) : b).called("with NaN in " + a.name());
            boolean changed = poisoned.args().stream().anyMatch(b -> !c.args().contains(b));
            if (changed) assertTrue(bench.run(poisoned).entrySet().stream().anyMatch(e -> showsNaN(c, e)), where(poisoned) + "it was swallowed");
        }
    }

    private static boolean showsNaN(Case c, Map.Entry<String, double[]> output) {
        boolean tokens = c.args().stream().anyMatch(a -> a instanceof Arg.Out o && o.type() == DType.I32 && o.name().equals(output.getKey()));
        return Arrays.stream(output.getValue()).anyMatch(v -> tokens ? v == -1 : Double.isNaN(v));
    }

    private static Arg poisoned(Arg a) {
        return switch (a) {
            case Arg.In in -> in.holding(poisoned(in.values()));
            case Arg.Kept k -> new Arg.Kept(k.name(), k.sameBits(), poisoned(k.values()), k.dims());
            case Arg.Fixed f when f.value() instanceof Float -> Arg.fixed(f.name(), Float.NaN);
            case Arg.Codes p when !p.out() -> p.holding(p.step(), poisoned(p.zero()));
            default -> a;
        };
    }

    private static float[] poisoned(float[] v) {
        float[] out = v.clone();
        out[0] = Float.NaN;
        return out;
    }

    /** No gradient of a generic call is all zeros. */
    private void gradientIsAlive(Case c) {
        Map<String, double[]> got = bench.run(c);
        for (Arg.Slope d : c.all(Arg.Slope.class)) {
            assertTrue(Arrays.stream(got.get(d.name())).anyMatch(v -> v != 0), where(c) + d.name() + " is zero everywhere");
        }
    }

    private void noneIsNaN(Case c, Map<String, double[]> expected) {
        expected.forEach((name, v) -> assertTrue(Arrays.stream(v).noneMatch(Double::isNaN), c + ": the reference gives NaN on generic values in " + name));
    }

    private void compare(Case c, Map<String, double[]> expected, Map<String, double[]> got, double scale) {
        if (expected.isEmpty()) fail(c + " has no output");
        expected.forEach((name, e) -> close(c, name, e, got.get(name), limit(c, Math.max(Math.max(scale, c.row().floor), largest(e)), exact(c, name))));
    }

    /** How far from the truth a number may be where the largest is {@code size}. */
    private double limit(Case c, double size, boolean exact) {
        double rate = c.row().product ? candidate.product() : candidate.plain();
        return exact ? 0 : rate * Math.sqrt(c.row().depth.applyAsDouble(c.size())) * size + 1e-30;
    }

    private static double largest(double[] v) {
        return Arrays.stream(v).map(Math::abs).filter(Double::isFinite).max().orElse(0);
    }

    private static boolean exact(Case c, String name) {
        return c.args().stream().anyMatch(a -> switch (a) {
            case Arg.Out o -> o.name().equals(name) && o.sameBits();
            case Arg.Slope d -> d.name().equals(name) && d.sameBits();
            case Arg.Kept k -> k.name().equals(name) && k.sameBits();
            case Arg.Codes p -> name.startsWith(p.name() + ".");
            default -> false;
        });
    }

    /** Equal up to {@code limit}; NaN only where NaN is due, an infinity only where that one is; +0 is −0. */
    private void close(Case c, String name, double[] expected, double[] got, double limit) {
        for (int i = 0; i < expected.length; i++) {
            double e = expected[i], g = got[i];
            boolean same = Double.isFinite(e) && Double.isFinite(g) ? Math.abs(e - g) <= limit : Double.compare(e, g) == 0;
            if (!same) fail("%s%s[%d] = %s, expected %s within %.3g".formatted(where(c), name, i, g, e, limit));
        }
        checks += expected.length;
    }

    private String where(Case c) {
        return c + " on " + candidate + ": ";
    }
}
