package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.cpu.ReferenceBackend;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * Gradients of rounded ops against finite differences of their surrogate, written here a second time and in doubles: at a
 * point, every rounding becomes "plus what it added there" and every clip keeps the branch it took there.
 */
class StraightThroughTest {
    private static final double STEP = 1e-3, TOLERANCE = 2e-5;

    /** The surrogate of an op around a point: its value for element i, given the inputs. */
    interface Surrogate {
        double[] of(Map<String, double[]> inputs);
    }

    interface Around {
        Surrogate point(Map<String, double[]> at, Case forward);
    }

    /** What each straight-through gradient is the slope of, and the factor it carries on top of that. */
    private static final Map<String, Around> SURROGATES = Map.of(
            "fakeQuantBack", StraightThroughTest::fakeQuant, "lsqBack", StraightThroughTest::lsq, "rowQuantBack", StraightThroughTest::rowQuant,
            "ternaryBack", StraightThroughTest::ternary, "reactivateBack", StraightThroughTest::reactivate,
            "minMaxQuantBack", StraightThroughTest::minMaxQuant);

    @TestFactory
    Stream<DynamicTest> everyStraightThroughGradientIsTheSlopeOfItsSurrogate() {
        return OpTable.rows().stream().filter(r -> r.proof == Row.Proof.STRAIGHT_THROUGH).map(r -> dynamicTest(r.toString(), () -> check(r)));
    }

    private static Surrogate fakeQuant(Map<String, double[]> at, Case c) {
        Grid grid = (Grid) c.<Arg.Fixed>arg("grid").value();
        int Q = grid.maxCode(), G = grid.group(), n = at.get("w").length;
        double[] stepShift = new double[at.get("step").length], zeroShift = stepShift.clone(), rounding = new double[n], stuck = new double[n];
        for (int g = 0; g < stepShift.length; g++) {
            stepShift[g] = Math.clamp(at.get("step")[g], 1e-4, 1e4) - at.get("step")[g];
            zeroShift[g] = grid.minimum() ? 0 : Math.clamp(Math.rint(at.get("zero")[g]), 0, Q) - at.get("zero")[g];
        }
        for (int i = 0; i < n; i++) {
            double zero = at.get("zero")[i / G] + zeroShift[i / G], from = grid.minimum() ? zero : 0;
            double v = (at.get("w")[i] - from) / (at.get("step")[i / G] + stepShift[i / G]), u = rint(v) + (grid.minimum() ? 0 : zero);
            rounding[i] = rint(v) - v;
            stuck[i] = u < 0 ? 0 : u > Q ? Q : Double.NaN;
        }
        return x -> {
            double[] y = new double[n];
            for (int i = 0; i < n; i++) {
                double s = x.get("step")[i / G] + stepShift[i / G], z = x.get("zero")[i / G] + zeroShift[i / G];
                if (grid.minimum()) {
                    y[i] = (Double.isNaN(stuck[i]) ? (x.get("w")[i] - z) / s + rounding[i] : stuck[i]) * s + z;
                    continue;
                }
                double q = Double.isNaN(stuck[i]) ? x.get("w")[i] / s + rounding[i] + z : stuck[i];
                y[i] = (q - z) * s;
            }
            return y;
        };
    }

    /** The range moves with the weights that span it. */
    private static Surrogate minMaxQuant(Map<String, double[]> at, Case c) {
        Grid grid = (Grid) c.<Arg.Fixed>arg("grid").value();
        int Q = grid.maxCode(), G = grid.group(), n = at.get("w").length;
        double[] offset = new double[n / G], rounding = new double[n], stuck = new double[n];
        for (int i = 0; i < n; i++) {
            double[] r = range(at.get("w"), i / G, G, Q);
            double v = at.get("w")[i] / r[1], z = rint(-r[0] / r[1]), u = rint(v) + z;
            offset[i / G] = z + r[0] / r[1];
            rounding[i] = rint(v) - v;
            stuck[i] = u < 0 ? 0 : u > Q ? Q : Double.NaN;
        }
        return x -> {
            double[] y = new double[n];
            for (int i = 0; i < n; i++) {
                double[] r = range(x.get("w"), i / G, G, Q);
                double z = -r[0] / r[1] + offset[i / G];
                y[i] = ((Double.isNaN(stuck[i]) ? x.get("w")[i] / r[1] + rounding[i] + z : stuck[i]) - z) * r[1];
            }
            return y;
        };
    }

    /** (lo, s) of a group */
    private static double[] range(double[] w, int group, int G, int Q) {
        double lo = 0, hi = 0;
        for (int i = group * G; i < (group + 1) * G; i++) {
            lo = Math.min(lo, w[i]);
            hi = Math.max(hi, w[i]);
        }
        return new double[] {lo, (hi - lo) / Q};
    }

    private static Surrogate lsq(Map<String, double[]> at, Case c) {
        Grid grid = (Grid) c.<Arg.Fixed>arg("grid").value();
        int G = grid.group(), n = at.get("w").length;
        double[] rounding = new double[n], stuck = new double[n];
        for (int i = 0; i < n; i++) {
            double v = at.get("w")[i] / at.get("step")[i / G];
            rounding[i] = rint(v) - v;
            stuck[i] = v < grid.lowest() ? grid.lowest() : v > grid.highest() ? grid.highest() : Double.NaN;
        }
        return x -> {
            double[] y = new double[n];
            for (int i = 0; i < n; i++) {
                double s = x.get("step")[i / G];
                y[i] = s * (Double.isNaN(stuck[i]) ? x.get("w")[i] / s + rounding[i] : stuck[i]);
            }
            return y;
        };
    }

    /** The scale is a constant of the row, so within the window y moves as x does, and outside it not at all. */
    private static Surrogate rowQuant(Map<String, double[]> at, Case c) {
        RowGrid grid = (RowGrid) c.<Arg.Fixed>arg("grid").value();
        double[] x0 = at.get("x").clone();
        return x -> {
            double[] y = new double[x0.length];
            for (int i = 0; i < y.length; i++) y[i] = grid.window() && (x0[i] <= -2 || x0[i] >= 2) ? 0 : x.get("x")[i] - x0[i];
            return y;
        };
    }

    /** Inside the clip y is s · (v + what rounding added there), beyond it a level that moves with s alone. */
    private static Surrogate ternary(Map<String, double[]> at, Case c) {
        Trits t = (Trits) c.<Arg.Fixed>arg("trits").value();
        double[] w = at.get("w"), s = at.get("scale"), edge = at.get("edge"), trit = new double[w.length];
        for (int i = 0; i < w.length; i++) {
            int g = i / t.group(), first = i / 4 * 4, smallest = first;
            for (int k = first; t.quads() && k < first + 4; k++) if (Math.abs(w[k]) < Math.abs(w[smallest])) smallest = k;
            boolean dead = t.quads() ? i == smallest : Math.abs(w[i]) < (edge == null ? (float) (t.edge() * s[g]) : edge[g]);
            trit[i] = t.shape() == Trits.Shape.FOURS ? (w[i] >= 0 ? 2 : 1) + (dead ? 0 : Math.signum(w[i])) + t.offset() / t.level() : dead ? 0 : Math.signum(w[i]);
        }
        return x -> {
            double[] y = new double[w.length];
            for (int i = 0; i < y.length; i++) {
                int g = i / t.group();
                double v0 = w[i] / s[g], v = x.get("w")[i] / x.get("scale")[g];
                y[i] = x.get("scale")[g] * (Math.abs(v0) > t.clip() ? t.beyond() * Math.signum(v0) : v + t.level() * trit[i] - v0);
                if (x.containsKey("shift")) y[i] += x.get("shift")[g];
                if (x.containsKey("residual")) y[i] += x.get("residual")[0] * x.get("w")[i];
            }
            return y;
        };
    }

    /** The dead stay dead, and their signs what they are; a sign's gradient is as if the weight itself were added. */
    private static Surrogate reactivate(Map<String, double[]> at, Case c) {
        Trits t = (Trits) c.<Arg.Fixed>arg("trits").value();
        boolean sign = (boolean) c.<Arg.Fixed>arg("sign").value();
        double[] w = at.get("w"), edge = at.get("edge");
        int I = c.size().at("I");
        return x -> {
            double[] y = new double[w.length / I], epsilon = x.get("epsilon");
            for (int i = 0; i < w.length; i++) {
                boolean dead = Math.abs(w[i]) < (edge == null ? t.edge() * at.get("scale")[i / t.group()] : edge[i / t.group()]);
                if (!dead) continue;
                double e = epsilon[epsilon.length == w.length ? i : i / I];
                y[i / I] += sign ? e * (w[i] >= 0 ? 1 : -1) + x.get("w")[i] - w[i] : e * x.get("w")[i];
            }
            return y;
        };
    }

    /** As the op rounds: an fp32 quotient, ties to even. */
    private static double rint(double v) {
        return Math.rint((float) v);
    }

    private static void check(Row row) {
        int checked = 0;
        try (Backend reference = new ReferenceBackend()) {
            for (Size size : row.sizes) {
                Case back = row.generic(size), forward = row.forward.generic(size);
                Map<String, double[]> gradients = new Bench(reference).run(back), at = inputs(forward);
                Surrogate surrogate = SURROGATES.get(row.op).point(at, forward);
                for (Arg.Slope d : back.all(Arg.Slope.class)) {
                    double factor = row.op.equals("lsqBack") && d.name().equals("dstep") ? lsqFactor(forward)
                            : d.name().equals("dscale") ? ((Trits) forward.<Arg.Fixed>arg("trits").value()).slope() : 1;
                    compare(back, surrogate, at, d.name().substring(1), gradients.get(d.name()), factor);
                    checked++;
                }
            }
        }
        assertTrue(checked > 0, row + " checked nothing");
    }

    private static double lsqFactor(Case forward) {
        Grid grid = (Grid) forward.<Arg.Fixed>arg("grid").value();
        return 1 / Math.sqrt((double) grid.group() * grid.highest());
    }

    private static Map<String, double[]> inputs(Case c) {
        Map<String, double[]> all = new HashMap<>();
        for (Arg.In in : c.all(Arg.In.class)) {
            double[] v = new double[in.values().length];
            for (int i = 0; i < v.length; i++) v[i] = in.values()[i];
            all.put(in.name(), v);
        }
        return all;
    }

    /** Every element of the gradient that a group or an element of its own decides. */
    private static void compare(Case back, Surrogate surrogate, Map<String, double[]> at, String input, double[] gradient, double factor) {
        float[] dy = back.<Arg.In>arg("dy").values();
        double largest = 1;
        for (double g : gradient) largest = Math.max(largest, Math.abs(g));
        for (int j : sample(gradient.length)) {
            double slope = factor * (8 * (value(surrogate, at, input, j, STEP, dy) - value(surrogate, at, input, j, -STEP, dy))
                    - (value(surrogate, at, input, j, 2 * STEP, dy) - value(surrogate, at, input, j, -2 * STEP, dy))) / (12 * STEP);
            assertTrue(Math.abs(slope - gradient[j]) <= TOLERANCE * largest,
                    "%s: d%s[%d] = %s, the surrogate's slope is %s".formatted(back, input, j, gradient[j], slope));
        }
    }

    /** Sixty indices, or all there are. */
    private static List<Integer> sample(int n) {
        return Stream.iterate(0, i -> i < n, i -> i + Math.max(1, n / 60)).toList();
    }

    private static double value(Surrogate surrogate, Map<String, double[]> at, String input, int j, double h, float[] dy) {
        Map<String, double[]> moved = new HashMap<>(at);
        double[] x = at.get(input).clone();
        x[j] += h;
        moved.put(input, x);
        double[] y = surrogate.of(moved);
        double sum = 0;
        for (int i = 0; i < y.length; i++) sum += y[i] * dy[i];
        return sum;
    }
}
