package dev.qat.train;

import dev.qat.ops.Backend;
import dev.qat.ops.Channels;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.Heads;
import dev.qat.ops.Meter;
import dev.qat.ops.Mix;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Sampling;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.ShapeMemory;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/** Every op that carries a run, alone and at one model's shapes: what it reaches of the machine's products and of its memory. */
public final class OpBench implements AutoCloseable {
    /** @param T tokens, one sequence  @param H heads, as many for keys and values  @param runs timed together */
    public record Shape(int T, int C, int F, int H, int V, int G, int runs) {}

    /** @param share of what bounds it: the larger of its operations over the product's speed and its bytes over the copy's, over its time */
    public record Row(String op, double ms, double tflops, double gigabytesPerSecond, double share) {}

    /** Ops that other rows stand for: the same traffic, or what only decoding and evaluation run, a batch at a time. */
    static final Set<String> LEFT_OUT = Set.of("ropeBack", "cacheWrite", "cachePack", "cacheUnpack", "attentionCache", "compare", "snap", "minMaxQuant", "minMaxQuantBack", "rowQuantBack",
            "channelScaleBack", "hadamardBack", "mixHeadsBack", "rmsScale", "rmsScaleBack", "reactivate", "reactivateBack", "embedBack", "fill", "scale");

    private final Backend backend;
    private final Memory memory;
    private final Shape s;
    private final List<Tensor> held = new ArrayList<>();
    private final Map<String, Consumer<Backend>> calls = new LinkedHashMap<>();

    private OpBench(Backend backend, Shape s) {
        this.backend = backend;
        this.memory = backend.memory();
        this.s = s;
        moves();
        decoder();
        losses();
        quantizers();
    }

    /** A row for every op, the two ceilings first: the largest product and the copy, whose shares are 1. */
    public static List<Row> run(Backend backend, Shape s) {
        try (OpBench b = new OpBench(backend, s)) {
            double[] seconds = b.calls.values().stream().mapToDouble(b::seconds).toArray();
            List<Meter.Cost> costs = b.calls.entrySet().stream().map(e -> b.cost(e.getKey(), e.getValue())).toList();
            int linear = List.copyOf(b.calls.keySet()).indexOf("linear"), copy = List.copyOf(b.calls.keySet()).indexOf("copy");
            double products = costs.get(linear).flop() / seconds[linear], bandwidth = costs.get(copy).bytes() / seconds[copy];
            List<Row> rows = new ArrayList<>();
            int i = 0;
            for (String op : b.calls.keySet()) {
                double flop = costs.get(i).flop(), bytes = costs.get(i).bytes(), took = seconds[i++];
                rows.add(new Row(op, 1e3 * took, 1e-12 * flop / took, 1e-9 * bytes / took, Math.max(flop / products, bytes / bandwidth) / took));
            }
            return rows;
        }
    }

    /** The ops that are measured. */
    static Set<String> ops(Backend backend, Shape s) {
        try (OpBench b = new OpBench(backend, s)) {
            return Set.copyOf(b.calls.keySet());
        }
    }

    private double seconds(Consumer<Backend> call) {
        call.accept(backend);
        backend.sync();
        long start = System.nanoTime();
        for (int i = 0; i < s.runs; i++) call.accept(backend);
        backend.sync();
        return (System.nanoTime() - start) * 1e-9 / s.runs;
    }

    private Meter.Cost cost(String op, Consumer<Backend> call) {
        Meter m = Meter.shape(backend.operand(), new ShapeMemory(256));
        call.accept(m.backend());
        return m.costs().get(op);
    }

    private Tensor tensor(String name, DType type, long... dims) {
        Tensor t = memory.tensor(name, type, dims);
        held.add(t);
        return t;
    }

    /** Random numbers in [0, 1). */
    private Tensor random(String name, long... dims) {
        Tensor t = tensor(name, DType.F32, dims), key = ints(name + " key", 4, held.size());
        backend.uniform(t, key);
        return t;
    }

    private Tensor operand(String name, long... dims) {
        Tensor wide = random(name, dims);
        if (backend.operand() == DType.F32) return wide;
        Tensor t = tensor(name + ".operand", backend.operand(), dims);
        backend.copy(t, wide);
        return t;
    }

    private Tensor ints(String name, int n, int from) {
        Tensor t = tensor(name, DType.I32, n);
        int[] v = new int[n];
        for (int i = 0; i < n; i++) v[i] = from + i;
        memory.set(t, v);
        return t;
    }

    private static Grad to(Tensor t) {
        return new Grad(t, false);
    }

    private void moves() {
        Tensor a = random("a", s.F, s.C), b = random("b", s.F, s.C), y = tensor("y", DType.F32, s.F, s.C), m = tensor("m", DType.F32, s.F, s.C), one = tensor("one", DType.F32, 1);
        Tensor v = random("v", s.F, s.C), hyper = random("hyper", 8), key = ints("key", 4, 1);
        backend.fill(m, 0);
        calls.put("copy", be -> be.copy(y, a));
        calls.put("add", be -> be.add(y, a, b));
        calls.put("accumulate", be -> be.accumulate(new Grad(y, true), a, 1));
        calls.put("sum", be -> be.sum(one, a, 1));
        calls.put("sumSquares", be -> be.sumSquares(one, a));
        calls.put("adamw", be -> be.adamw(y, a, m, v, hyper, one));
        calls.put("uniform", be -> be.uniform(y, key));
    }

    private void decoder() {
        int N = s.T, D = s.C / s.H;
        Tensor x = random("x", N, s.C), xo = operand("x for products", N, s.C), w = operand("w", s.F, s.C), y = tensor("y", DType.F32, N, s.F), dy = operand("dy", N, s.F);
        Tensor dx = tensor("dx", DType.F32, N, s.C), dw = tensor("dw", DType.F32, s.F, s.C), gain = random("gain", s.C), dgain = tensor("dgain", DType.F32, s.C);
        Tensor normed = tensor("normed", backend.operand(), N, s.C), rstd = random("rstd", N), table = random("table", 2, s.T, D / 2), at = ints("at", N, 0);
        Tensor ids = ints("ids", N, 0), words = random("words", Math.max(s.V, N), s.C);
        calls.put("embed", be -> be.embed(dx, ids, words));
        calls.put("linear", be -> be.linear(y, xo, w, null, null));
        calls.put("linearBack", be -> be.linearBack(to(dx), to(dw), Grad.NONE, dy, xo, w));
        calls.put("rmsnorm", be -> be.rmsnorm(normed, rstd, x, gain, 1e-5f));
        calls.put("rmsnormBack", be -> be.rmsnormBack(to(dx), to(dgain), x, x, gain, rstd));
        calls.put("rope", be -> be.rope(dx, x, table, at));
        Heads heads = new Heads(1, s.T, s.H, s.H, D);
        Tensor k = random("k", N, s.C), v = random("v", N, s.C), o = tensor("o", DType.F32, N, s.C), lse = tensor("lse", DType.F32, 1, s.H, s.T), delta = tensor("delta", DType.F32, 1, s.H, s.T);
        Tensor dk = tensor("dk", DType.F32, N, s.C), dv = tensor("dv", DType.F32, N, s.C);
        calls.put("attention", be -> be.attention(o, lse, x, k, v, heads));
        calls.put("attentionBack", be -> be.attentionBack(to(dx), to(dk), to(dv), delta, x, o, lse, x, k, v, heads));
        Tensor matrices = random("matrices", s.C, D);
        calls.put("mixHeads", be -> be.mixHeads(o, x, matrices, new Mix(1, 1, false)));
        Tensor gate = random("gate", N, s.F), up = random("up", N, s.F), product = tensor("swiglu", backend.operand(), N, s.F);
        Tensor dgate = tensor("dgate", backend.operand(), N, s.F), dup = tensor("dup", backend.operand(), N, s.F);
        calls.put("swiglu", be -> be.swiglu(product, gate, up));
        calls.put("swigluBack", be -> be.swigluBack(to(dgate), to(dup), y, gate, up));
        calls.put("mse", be -> be.mse(rstd.view(0, 1), to(dx), x, k));
    }

    private void losses() {
        int N = s.T, chunk = Math.min(512, N);
        Tensor x = operand("hidden", N, s.C), w = operand("head", s.V, s.C), loss = tensor("loss", DType.F32, N), logits = random("logits", chunk, s.V), other = random("teacher logits", chunk, s.V);
        Tensor dx = tensor("dhidden", DType.F32, N, s.C), targets = ints("targets", N, 0), drawn = tensor("drawn", DType.I32, chunk), keys = ints("keys", 2 * chunk, 0);
        Tensor pairs = new Tensor("keys", DType.I32, keys.address, chunk, 2), few = random("few logits", chunk, s.V);
        calls.put("crossEntropy", be -> be.crossEntropy(loss, to(dx), Grad.NONE, logits, x, w, targets, 1f / N));
        calls.put("distill", be -> be.distill(loss, to(dx), Grad.NONE, logits, other, x, w, x, w, targets, Divergence.KL, 1f / N));
        calls.put("sample", be -> be.sample(drawn, few, pairs, new Sampling(1, 0, 0.9f, 7)));
    }

    private void quantizers() {
        Grid grid = new Grid(2, s.G);
        int groups = s.C / s.G;
        Tensor w = random("weight", s.F, s.C), y = tensor("weight for products", backend.operand(), s.F, s.C), dy = random("dweight", s.F, s.C);
        Tensor step = tensor("step", DType.F32, s.F, groups), zero = tensor("zero", DType.F32, s.F, groups), dstep = tensor("dstep", DType.F32, s.F, groups), dzero = tensor("dzero", DType.F32, s.F, groups);
        Tensor words = tensor("words", DType.I32, s.F, PackedWeight.wordsPerRow(s.C, 2)), dw = tensor("dw", DType.F32, s.F, s.C);
        PackedWeight packed = new PackedWeight("packed", 2, s.G, s.C, words, step, zero, null);
        calls.put("groupRange", be -> be.groupRange(step, zero, w, grid));
        calls.put("fakeQuant", be -> be.fakeQuant(y, w, step, zero, grid));
        calls.put("fakeQuantBack", be -> be.fakeQuantBack(to(dw), to(dstep), to(dzero), dy, w, step, zero, grid));
        calls.put("pack", be -> be.pack(packed, w, step, zero));
        calls.put("dequantize", be -> be.dequantize(y, packed, step));
        calls.put("dequantizeBack", be -> be.dequantizeBack(to(dstep), dy, packed));
        Tensor perRow = random("per row", s.F), dperRow = tensor("dper row", DType.F32, s.F), one = random("one", 1), edge = tensor("edge", DType.F32, 1), same = tensor("like weight", DType.F32, s.F, s.C);
        calls.put("lsq", be -> be.lsq(same, w, perRow, new Grid(4, s.C)));
        calls.put("lsqBack", be -> be.lsqBack(to(dw), to(dperRow), dy, w, perRow, new Grid(4, s.C)));
        calls.put("rowQuant", be -> be.rowQuant(same, w, new RowGrid(8, true, false)));
        calls.put("channelScale", be -> be.channelScale(same, w, step.view(0, s.C), Channels.each(s.C, 1)));
        int rotated = Integer.lowestOneBit(s.C);
        calls.put("hadamard", be -> be.hadamard(same, w, rotated, 1));
        int all = s.F * s.C; // one group, the whole matrix: the longest there is
        calls.put("ternaryRange", be -> be.ternaryRange(one, edge, w, Threshold.ABSMEAN, all));
        calls.put("ternary", be -> be.ternary(y, w, one, edge, null, null, Trits.given(all)));
        calls.put("ternaryBack", be -> be.ternaryBack(to(dw), to(edge), Grad.NONE, dy, w, one, null, null, Trits.lsq(all)));
    }

    @Override
    public void close() {
        for (Tensor t : held) memory.free(t.address);
    }
}
