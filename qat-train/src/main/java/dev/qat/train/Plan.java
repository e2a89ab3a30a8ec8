package dev.qat.train;

import dev.qat.ops.Meter;
import dev.qat.tensor.Memory.Slab;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** What a run will need, found by running each of its steps once on shapes: memory by owner, operations and bytes. */
public final class Plan {
    /**
     * One loop of a stage: {@code steps} times the cost of one step.
     *
     * @param beside bytes that go from or to the host on lanes of their own, while the step computes
     * @param bus    bytes that the step's kernels themselves read or write there
     */
    public record Part(String stage, int block, long steps, long tokens, Step.Cost cost, long beside, long bus) {
        public double flop() {
            return steps * cost.flop();
        }

        public double bytes() {
            return steps * cost.bytes();
        }
    }

    private final List<Part> parts = new ArrayList<>();
    private final Map<String, Long> host = new LinkedHashMap<>(), disk = new LinkedHashMap<>();
    private long finished, working, chains;
    private List<Slab> slabs = List.of();
    private long peak, parameters;

    void add(String stage, int block, long steps, long tokens, Step.Cost cost, long beside, long bus) {
        parts.add(new Part(stage, block, steps, tokens, cost, beside, bus));
    }

    /** Memory on the host, outside the device. */
    void host(String owner, long bytes) {
        host.merge(owner, bytes, Math::max);
    }

    /** What a loop trains, which is kept when it is done; what a checkpoint in its middle adds; and the chains such a one stands on. */
    void kept(long values, long moments, long chainBytes) {
        finished += values;
        working = Math.max(working, values + moments);
        chains = Math.max(chains, chainBytes);
    }

    /** Files that lie in the run's directory when most of them do, in bytes.  @param keep how many checkpoints are kept; one more is being written */
    void files(long model, long codes, long target, int keep) {
        disk.put("model", model);
        disk.put("codes", codes);
        if (target > 0) disk.put("target's file", target);
        if (keep > 0) disk.put("checkpoints, at most", finished + (keep + 1) * (working + chains));
    }

    void done(List<Slab> atPeak, long bytes, long modelParameters) {
        slabs = atPeak;
        peak = bytes;
        parameters = modelParameters;
    }

    public List<Part> parts() {
        return parts;
    }

    public Map<String, Long> host() {
        return host;
    }

    public Map<String, Long> disk() {
        return disk;
    }

    /** The most device memory held at one time, in bytes. */
    public long peakBytes() {
        return peak;
    }

    public long parameters() {
        return parameters;
    }

    /** Who holds the device's memory when most is held: owners added up by name, numbers in names left out. */
    public Map<String, Long> owners() {
        Map<String, Long> sums = new LinkedHashMap<>();
        for (Slab s : slabs) sums.merge(s.owner().startsWith("model.layers") ? "codes, steps, zero points" : s.owner().replaceAll("\\b\\d+ ?\\b", ""), s.bytes(), Long::sum);
        return sums;
    }

    /** Operations and bytes of the whole run, per op. */
    public Map<String, Meter.Cost> ops() {
        Map<String, Meter.Cost> sums = new TreeMap<>();
        for (Part p : parts) {
            p.cost.ops().forEach((op, c) -> sums.merge(op, new Meter.Cost(c.calls() * p.steps, c.flop() * p.steps, c.bytes() * p.steps, 0),
                    (a, b) -> new Meter.Cost(a.calls() + b.calls(), a.flop() + b.flop(), a.bytes() + b.bytes(), 0)));
        }
        return sums;
    }
}
