package dev.qat.train;

import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Positions;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.ops.Meter;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;

/**
 * A few steps of one random block of a model's shape on a backend, each op timed by itself: the speeds a {@link Roofline} takes
 * in place of a data sheet's. No weights are read.
 */
public final class Probe {
    private static final int STEPS = 8, WARMUP = 3;
    private static final double WARMUP_SECONDS = 3;
    private static final long PARCEL = 64L << 20;

    private Probe() {}

    /** @param batch windows of {@code length} tokens in a step */
    public static Roofline.Speed run(Backend backend, ModelConfig of, int batch, int length) {
        ModelConfig c = new ModelConfig(of.type(), 16, of.C(), of.F(), 1, of.H(), of.K(), of.D(), of.eps(), of.rope(), Math.max(of.context(), length), true, of.qkvBias(), of.outBias(), of.mlpBias(), of.qkNorm());
        Memory m = backend.memory();
        Model model = new Model(c, m);
        model.randomize(1);
        Block block = model.blocks().getFirst();
        List<Param> trained = new ArrayList<>(block.linears().stream().map(l -> l.weight).toList());
        List<Param> scales = BlockBench.quantize(backend, block.linears(), new Grid(4, c.C()));
        Tensor x = m.tensor("x", (long) batch * length, c.C()), target = m.tensor("target", x.dims()), loss = m.tensor("loss", 1), key = m.tensor("key", DType.I32, 4);
        m.set(key, 1, 2, 3, 4);
        backend.uniform(x, key);
        backend.uniform(target, key);
        Positions at = model.positions(batch, length);
        Meter meter = Meter.over(backend);
        Map<String, Meter.Cost> fastest = new TreeMap<>(); // of every op the step in which nothing disturbed it
        try (AdamW adam = new AdamW(backend, List.of(new AdamW.Group(trained, 1e-5, 0), new AdamW.Group(scales, 1e-4, 0)), AdamW.Config.DEFAULTS)) {
            Consumer<Tape> body = t -> {
                Ops.mse(t, loss, block.forward(t, x, at), target);
                t.backward();
                adam.update(t.backend());
            };
            try (Step step = new Step(meter.backend(), "probed step", true, body)) {
                long begun = System.nanoTime();
                for (int i = -WARMUP; i < STEPS; i++) {
                    if (i == 0 && (System.nanoTime() - begun) * 1e-9 < WARMUP_SECONDS) i--;
                    meter.reset();
                    adam.prepare(1);
                    step.run();
                    if (i >= 0) meter.costs().forEach((op, cost) -> fastest.merge(op, cost, (a, b) -> a.seconds() < b.seconds() ? a : b));
                }
            }
        }
        return speed(backend, fastest, bus(backend));
    }

    private static Roofline.Speed speed(Backend backend, Map<String, Meter.Cost> costs, double bus) {
        double[] work = new double[3], seconds = new double[3]; // of products, attention, and what memory bounds
        Map<String, Double> single = new TreeMap<>();
        costs.forEach((op, c) -> {
            single.put(op, (c.flop() > 0 ? c.flop() : c.bytes()) / c.seconds());
            int kind = c.flop() == 0 ? 2 : Roofline.OWN.contains(op) ? 1 : 0;
            work[kind] += kind == 2 ? c.bytes() : c.flop();
            seconds[kind] += c.seconds();
        });
        return new Roofline.Speed("this machine, " + backend.name(), work[0] / seconds[0], work[1] / seconds[1], work[2] / seconds[2], bus, single);
    }

    /** Bytes per second from the host, the better of two. */
    private static double bus(Backend backend) {
        Memory m = backend.memory();
        long host = m.allocateOnHost("parcel", PARCEL);
        Tensor parcel = m.tensor("parcel", PARCEL / 4);
        double best = 0;
        for (int i = 0; i < 2; i++) {
            long start = System.nanoTime();
            m.write(parcel, java.lang.foreign.MemorySegment.ofAddress(host).reinterpret(PARCEL));
            backend.sync();
            best = Math.max(best, PARCEL / ((System.nanoTime() - start) * 1e-9));
        }
        m.free(parcel.address);
        m.free(host);
        return best;
    }
}
