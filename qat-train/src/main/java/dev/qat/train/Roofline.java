package dev.qat.train;

import dev.qat.ops.Meter;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/**
 * How long a plan takes on a device that it does not have: every kind of op takes max(operations / tensor-core peak, bytes /
 * bandwidth), both at an assumed share of the data sheet's numbers; what crosses the bus to the host is added, as if nothing
 * overlapped.
 */
public final class Roofline {
    /**
     * Data-sheet numbers.
     *
     * @param flops dense BF16 tensor-core operations per second  @param bandwidth of the device's memory, bytes per second
     * @param bus   bytes per second to and from the host, one way
     */
    public enum Card {
        A100("A100 SXM 80 GB", 312e12, 2.039e12, 32e9),
        H100("H100 SXM 80 GB", 989e12, 3.35e12, 64e9);

        public final String title;
        final double flops, bandwidth, bus;

        Card(String title, double flops, double bandwidth, double bus) {
            this.title = title;
            this.flops = flops;
            this.bandwidth = bandwidth;
            this.bus = bus;
        }
    }

    /** Shares of the data sheet that are assumed: cuBLAS products, attention's own kernels, memory, bus. */
    public static final double PRODUCTS = 0.75, ATTENTION = 0.35, MEMORY = 0.8, BUS = 0.7;

    private static final Set<String> OWN = Set.of("attention", "attentionBack", "attentionCache");

    private Roofline() {}

    /** The assumptions, in words. */
    public static String assumed() {
        return "assumed of the data sheet: products %.0f%%, attention %.0f%%, memory %.0f%%, bus %.0f%%; nothing overlaps"
                .formatted(100 * PRODUCTS, 100 * ATTENTION, 100 * MEMORY, 100 * BUS);
    }

    /** Hours of every loop of a plan. */
    public static Map<String, Double> hours(Plan plan, Card card) {
        Map<String, Double> hours = new LinkedHashMap<>();
        for (Plan.Part p : plan.parts()) hours.merge(p.stage(), p.steps() * (seconds(p.cost().ops(), card) + p.bus() / (card.bus * BUS)) / 3600, Double::sum);
        return hours;
    }

    private static double seconds(Map<String, Meter.Cost> ops, Card card) {
        double sum = 0;
        for (var e : ops.entrySet()) {
            double share = OWN.contains(e.getKey()) ? ATTENTION : PRODUCTS;
            sum += Math.max(e.getValue().flop() / (card.flops * share), e.getValue().bytes() / (card.bandwidth * MEMORY));
        }
        return sum;
    }
}
