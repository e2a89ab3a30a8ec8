package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.ops.Bench.Manner;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.function.DoubleUnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * The reference's gradients of smooth ops against four-point differences of the reference's own values.
 *
 * <p>Inputs lie on a grid of 2⁻¹³ and steps on one of 2⁻¹³ too, so that the points themselves carry no rounding.
 */
class FiniteDifferenceTest {
    private static final double STEP = 0x1p-7;
    private static final double TOLERANCE = 2e-4;

    @TestFactory
    Stream<DynamicTest> everySmoothGradientIsTheSlopeOfItsOp() {
        return OpTable.rows().stream().filter(r -> r.proof == Row.Proof.SMOOTH).map(r -> dynamicTest(r.toString(), () -> check(r)));
    }

    private static void check(Row row) {
        int checked = 0;
        try (Backend reference = new ReferenceBackend()) {
            Bench bench = new Bench(reference);
            for (Size size : row.sizes) {
                Case back = row.generic(size);
                Case forward = row.forward == null ? back : row.forward.generic(size);
                Map<String, double[]> gradients = bench.run(back);
                for (Arg.Slope d : back.all(Arg.Slope.class)) {
                    along(bench, back, forward, d.name().substring(1), gradients.get(d.name()));
                    checked++;
                }
            }
        }
        assertTrue(checked > 0, row + " checked nothing");
    }

    /** Two random directions through one input. */
    private static void along(Bench bench, Case back, Case forward, String input, double[] gradient) {
        Arg.In x = forward.arg(input);
        for (String direction : new String[] {"one way", "another way"}) {
            float[] way = Values.of(x.values().length, i -> 0);
            float[] random = Values.normal(direction, way.length);
            for (int i = 0; i < way.length; i++) way[i] = (float) (Math.rint(random[i] * 64) / 64);
            double expected = 0, size = 1e-3;
            for (int i = 0; i < way.length; i++) {
                expected += gradient[i] * way[i];
                size += Math.pow(gradient[i] * way[i], 2);
            }
            double slope = slope(h -> value(bench, back, forward.with(input, moved(x.values(), way, h))));
            double limit = TOLERANCE * Math.sqrt(size);
            assertTrue(Math.abs(slope - expected) <= limit,
                    "%s: d%s along a direction is %s, finite differences say %s (± %.2g)".formatted(back, input, expected, slope, limit));
        }
    }

    private static double slope(DoubleUnaryOperator f) {
        return (8 * (f.applyAsDouble(STEP) - f.applyAsDouble(-STEP)) - (f.applyAsDouble(2 * STEP) - f.applyAsDouble(-2 * STEP))) / (12 * STEP);
    }

    private static float[] moved(float[] x, float[] way, double h) {
        return Values.of(x.length, i -> x[i] + h * way[i]);
    }

    /** What the gradients are gradients of: a loss times its scale, or Σ dy · y. */
    private static double value(Bench bench, Case back, Case forward) {
        if (back.row().forward == null) return back.row().lossScale * sum(bench.run(forward, frozen(forward)).get("loss"), null);
        Arg.In dy = back.arg("dy");
        Arg.Out y = forward.all(Arg.Out.class).getFirst();
        return sum(bench.run(forward).get(y.name()), dy.values());
    }

    private static Manner frozen(Case c) {
        Set<String> names = new HashSet<>();
        c.all(Arg.Slope.class).forEach(d -> names.add(d.name()));
        return Manner.frozen(names);
    }

    private static double sum(double[] y, float[] weights) {
        double sum = 0;
        for (int i = 0; i < y.length; i++) sum += weights == null ? y[i] : y[i] * weights[i];
        return sum;
    }
}
