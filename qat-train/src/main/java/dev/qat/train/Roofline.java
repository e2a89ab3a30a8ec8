package dev.qat.train;

import dev.qat.ops.Meter;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/**
 * How long a plan takes on a device that it does not have: every kind of op takes max(operations / tensor-core peak, bytes /
 * bandwidth), both at an assumed share of the data sheet's numbers. What lanes of their own carry over the bus takes time only
 * where it takes longer than the step; what kernels reach across it is added.
 */
public final class Roofline {
    /**
     * Data-sheet numbers.
     *
     * @param flops dense BF16 tensor-core operations per second  @param bandwidth of the device's memory, bytes per second
     * @param bus       bytes per second to and from the host, one way
     * @param attention share of the peak that attention's kernels are assumed to reach: they are made for an A100 (attention.cu)
     */
    public enum Card {
        A100("A100 SXM 80 GB", 312e12, 2.039e12, 32e9, 0.35),
        H100("H100 SXM 80 GB", 989e12, 3.35e12, 64e9, 0.2);

        public final String title;
        private final double flops, bandwidth, bus, attention;

        Card(String title, double flops, double bandwidth, double bus, double attention) {
            this.title = title;
            this.flops = flops;
            this.bandwidth = bandwidth;
            this.bus = bus;
            this.attention = attention;
        }

        Speed speed() {
            return new Speed(title, flops * PRODUCTS, flops * attention, bandwidth * MEMORY, bus * BUS, Map.of());
        }
    }

    /**
     * What a device does: operations per second of products and of attention, bytes per second of its memory and of the bus to it.
     *
     * @param measured of single ops, where they were timed: operations per second of those that count any, else bytes per second
     */
    public record Speed(String title, double products, double attention, double memory, double bus, Map<String, Double> measured) {
        private double seconds(String op, Meter.Cost c) {
            if (measured.containsKey(op)) return (c.flop() > 0 ? c.flop() : c.bytes()) / measured.get(op);
            return Math.max(c.flop() / (OWN.contains(op) ? attention : products), c.bytes() / memory);
        }
    }

    /** Shares of the data sheet that are assumed: cuBLAS products, memory, bus. */
    public static final double PRODUCTS = 0.75, MEMORY = 0.8, BUS = 0.7;

    /** Ops that are products, but not cuBLAS's. */
    static final Set<String> OWN = Set.of("attention", "attentionBack", "attentionCache");

    private Roofline() {}

    /** The assumptions, in words. */
    public static String assumed() {
        return "assumed of the data sheet: products %.0f%%, attention %.0f%% (H100: %.0f%%), memory %.0f%%, bus %.0f%%; ops one after the other, copies on lanes of their own beside them"
                .formatted(100 * PRODUCTS, 100 * Card.A100.attention, 100 * Card.H100.attention, 100 * MEMORY, 100 * BUS);
    }

    /** Hours of every loop of a plan. */
    public static Map<String, Double> hours(Plan plan, Card card) {
        return hours(plan, card.speed());
    }

    public static Map<String, Double> hours(Plan plan, Speed v) {
        Map<String, Double> hours = new LinkedHashMap<>();
        for (Plan.Part p : plan.parts()) {
            double step = Math.max(seconds(p.cost().ops(), v), p.beside() / v.bus) + p.bus() / v.bus;
            hours.merge(p.stage(), p.steps() * step / 3600, Double::sum);
        }
        return hours;
    }

    private static double seconds(Map<String, Meter.Cost> ops, Speed v) {
        return ops.entrySet().stream().mapToDouble(e -> v.seconds(e.getKey(), e.getValue())).sum();
    }
}
