package dev.qat.train;

import com.sun.management.ThreadMXBean;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Positions;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.ops.Meter;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The Block-AP step of one random block, timed against its floor: the products at the speed of a large one on the same threads. */
public final class BlockBench {
    /**
     * @param gemmFloorMs 3 × the forward products' operations over the measured peak
     * @param heapMb      Java objects that a step allocates: tensors lie elsewhere, so more than a fraction is vectors the compiler boxed
     * @param rooflineMs  of every op the longer of its operations over that peak and its bytes over the measured speed of a copy
     */
    public record Result(double msPerStep, double gemmFloorMs, double rooflineMs, double gflop, double peakGflops, double ratio, double heapMb, Map<String, Double> msPerOp) {}

    public record Shape(int dim, int ffn, int heads, int seq, int batch, int bits, int group, int steps) {}

    /** Steps before the first that counts, and at least so many seconds of them: the JVM compiles while it runs; the last few in pairs. */
    private static final int WARMUP = 20, WARMUP_SECONDS = 8, PAIRS = 2;
    private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    private BlockBench() {}

    public static Result run(Backend backend, Shape s) {
        ModelConfig c = new ModelConfig("llama", 16, s.dim, s.ffn, 1, s.heads, s.heads, s.dim / s.heads, 1e-5f,
                new ModelConfig.RopeScaling(10000, "default", 1, 1, 1, 0), s.seq, true, false, false, false, false);
        Model model = new Model(c, backend.memory());
        model.randomize(1);
        var block = model.blocks().getFirst();
        List<Param> trained = new ArrayList<>(block.linears().stream().map(l -> l.weight).toList());
        trained.addAll(block.gains());
        List<Param> scales = quantize(backend, block.linears(), new Grid(s.bits, s.group));
        AdamW adam = new AdamW(backend, List.of(new AdamW.Group(trained, 1e-5, 0), new AdamW.Group(scales, 1e-4, 0)), AdamW.Config.DEFAULTS);
        Tensor x = backend.memory().tensor("x", (long) s.batch * s.seq, s.dim), target = backend.memory().tensor("target", x.dims());
        Tensor key = backend.memory().tensor("key", dev.qat.tensor.DType.I32, 4);
        backend.memory().set(key, 1, 2, 3, 4);
        backend.uniform(x, key);
        backend.uniform(target, key);
        Positions at = model.positions(s.batch, s.seq);
        Meter meter = Meter.over(backend);
        java.util.function.Consumer<Tape> body = t -> {
            Ops.mse(t, block.forward(t, x, at), target);
            t.backward();
            adam.update(t.backend());
        };
        try (Step step = new Step(backend, "step", true, body); Peak peak = new Peak(backend)) {
            double[] ms = new double[s.steps], product = new double[s.steps], heap = new double[s.steps];
            time(step, adam, backend, peak, ms, product, heap);
            double products = Peak.of(product), bandwidth = bandwidth(backend, model.linears().getLast().weight.value());
            double roofline = step.cost().ops().values().stream().mapToDouble(op -> Math.max(op.flop() / products, op.bytes() / bandwidth)).sum();
            return result(ms, products, 1e3 * roofline, forwardFlop(step.cost()), median(heap), perOp(meter, body, adam));
        }
    }

    /** Groups run over the flattened matrix, so that every GROUP which divides it can be timed (1376 inputs in groups of 64). */
    static List<Param> quantize(Backend backend, List<Linear> linears, Grid grid) {
        List<Param> scales = Slab.of(backend.memory(), "steps", slab -> {
            List<Param> all = new ArrayList<>();
            for (Linear l : linears) {
                long groups = l.inputs() * l.outputs() / grid.group();
                all.add(slab.param(l.name + ".step", Param.Kind.SCALE, groups));
                all.add(slab.param(l.name + ".zero", Param.Kind.ZERO, groups));
            }
            return all;
        });
        for (int i = 0; i < linears.size(); i++) {
            Tensor step = scales.get(2 * i).value(), zero = scales.get(2 * i + 1).value();
            backend.groupRange(step, zero, linears.get(i).weight.value(), grid);
            linears.get(i).weightSite.add((t, w) -> Ops.fakeQuant(t, w, step, zero, grid));
        }
        return scales;
    }

    /** A step, a product, a step, ..: both sides of the ratio see the same clock. */
    private static void time(Step step, AdamW adam, Backend backend, Peak peak, double[] ms, double[] product, double[] heap) {
        long begun = System.nanoTime();
        for (int i = -WARMUP; i < ms.length; i++) {
            if (i == -PAIRS && (System.nanoTime() - begun) * 1e-9 < WARMUP_SECONDS) i--;
            long allocated = THREADS.getTotalThreadAllocatedBytes(), start = System.nanoTime();
            adam.prepare(1);
            step.run();
            backend.sync();
            double elapsed = (System.nanoTime() - start) * 1e-6, objects = (THREADS.getTotalThreadAllocatedBytes() - allocated) * 0x1p-20;
            double between = i < -PAIRS ? 0 : peak.seconds();
            if (i < 0) continue;
            heap[i] = objects;
            ms[i] = elapsed;
            product[i] = between;
        }
    }

    /** Bytes per second that a copy reads and writes. */
    private static double bandwidth(Backend backend, Tensor x) {
        Tensor y = backend.memory().tensor("copy", x.dims());
        double best = Double.MAX_VALUE;
        for (int i = 0; i < WARMUP; i++) {
            long start = System.nanoTime();
            backend.copy(y, x);
            backend.sync();
            best = Math.min(best, (System.nanoTime() - start) * 1e-9);
        }
        backend.memory().free(y.address);
        return 2 * x.bytes() / best;
    }

    private static double forwardFlop(Step.Cost cost) {
        return cost.ops().get("linear").flop();
    }

    private static Result result(double[] ms, double peak, double roofline, double forward, double heap, Map<String, Double> perOp) {
        double median = median(ms), floor = 3 * forward / peak * 1e3;
        return new Result(median, floor, roofline, 3 * forward * 1e-9, peak * 1e-9, median / floor, heap, perOp);
    }

    private static double median(double[] a) {
        Arrays.sort(a);
        return a[a.length / 2];
    }

    /** Milliseconds per op in one step, metered in a run of its own so that the meter costs the timing nothing. */
    private static Map<String, Double> perOp(Meter meter, java.util.function.Consumer<Tape> body, AdamW adam) {
        int runs = 10;
        var costs = new java.util.TreeMap<String, Double>();
        try (Step step = new Step(meter.backend(), "metered step", true, body)) {
            for (int i = -WARMUP; i < runs; i++) {
                if (i == 0) meter.reset();
                adam.prepare(1);
                step.run();
            }
        }
        meter.costs().forEach((op, cost) -> costs.put(op, Math.round(1e5 * cost.seconds() / runs) / 100.0));
        return costs;
    }
}
