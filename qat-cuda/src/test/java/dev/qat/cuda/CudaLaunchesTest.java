package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.Heads;
import dev.qat.ops.RowGrid;
import dev.qat.tensor.DType;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** How much work each op puts on the stream: kernels, products, copies and fills. A number that grows is a step that slows. */
class CudaLaunchesTest {
    private final Map<String, Long> asked = new LinkedHashMap<>(), counted = new LinkedHashMap<>();

    private void count(String op, long expected, Runnable run) {
        run.run();
        long before = launched();
        run.run();
        asked.put(op, expected);
        counted.put(op, launched() - before);
    }

    private static long launched() {
        StandIn.Counters c = StandIn.counters();
        return c.launches() + c.gemms() + c.copies() + c.fills();
    }

    @Test
    void everyOpLaunchesAsLittleAsItCan() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.BF16)) {
            Stage s = new Stage(b);
            moves(b, s);
            layers(b, s);
            losses(b, s);
            quantizers(b, s);
        }
        assertEquals(asked, counted);
    }

    private static Grad to(Tensor t) {
        return new Grad(t, false);
    }

    private void moves(CudaBackend b, Stage s) {
        Tensor x = s.normal("x", 1000), y = s.empty("y", 1000), one = s.empty("one", 1), half = s.operand("half", 1000);
        Tensor p = s.normal("p", 1000), m = s.positive("m", 0, 1000), v = s.positive("v", 0, 1000), hyper = s.positive("hyper", 0, 8);
        count("copy", 1, () -> b.copy(y, x));
        count("copy to operands", 1, () -> b.copy(half, x));
        count("fill", 1, () -> b.fill(y, 1));
        count("add", 1, () -> b.add(y, x, x));
        count("scale", 1, () -> b.scale(y, x, 2));
        count("accumulate", 1, () -> b.accumulate(new Grad(y, true), x, 2));
        count("sum", 2, () -> b.sum(one, x, 1));
        count("sumSquares", 2, () -> b.sumSquares(one, x));
        count("adamw", 1, () -> b.adamw(p, x, m, v, hyper, one));
        count("uniform", 1, () -> b.uniform(y, s.ints("key", 0, 9, 4)));
    }

    private void layers(CudaBackend b, Stage s) {
        Heads heads = new Heads(1, 10, 4, 2, 8);
        Tensor x = s.normal("x", 10, 32), k = s.normal("k", 10, 16), y = s.empty("y", 10, 32), gain = s.normal("gain", 32),
                rstd = s.positive("rstd", 1, 10);
        Tensor lse = s.positive("lse", 3, 1, 4, 10), delta = s.empty("delta", 1, 4, 10), ids = s.ints("ids", 0, 5, 10),
                table = s.normal("table", 5, 32);
        Tensor xo = s.operand("x", 10, 32), w = s.operand("w", 32, 32), dw = s.empty("dw", 32, 32), angles = s.normal("angles", 2, 10, 4);
        Tensor dx = s.empty("dx", 10, 32), dk = s.empty("dk", 10, 16), dv = s.empty("dv", 10, 16), cache = s.normal("cache", 1, 10, 16);
        count("embed", 1, () -> b.embed(y, ids, table));
        count("embedBack writing", 2, () -> b.embedBack(to(s.empty("dtable", 5, 32)), x, ids));
        count("embedBack adding", 1, () -> b.embedBack(new Grad(table, true), x, ids));
        count("linear", 1, () -> b.linear(y, xo, w, null, null));
        count("linear with bias and plus", 2, () -> b.linear(y, xo, w, gain, x));
        count("linearBack", 2, () -> b.linearBack(to(dx), to(dw), Grad.NONE, xo, xo, w));
        count("linearBack with bias", 3, () -> b.linearBack(to(dx), new Grad(dw, true), to(gain), xo, xo, w));
        count("rmsnorm", 1, () -> b.rmsnorm(y, rstd, x, gain, 1e-5f));
        count("rmsnormBack", 1, () -> b.rmsnormBack(to(dx), Grad.NONE, x, x, gain, rstd));
        count("rmsnormBack with gain", 2, () -> b.rmsnormBack(to(dx), to(s.empty("dgain", 32)), x, x, gain, rstd));
        count("rope", 1, () -> b.rope(y, x, angles, ids));
        count("ropeBack", 1, () -> b.ropeBack(to(dx), x, angles, ids));
        count("attention", 1, () -> b.attention(y, lse, x, k, k, heads));
        count("attentionBack", 2, () -> b.attentionBack(to(dx), to(dk), to(dv), delta, x, y, lse, x, k, k, heads));
        count("attentionCache", 1, () -> b.attentionCache(y.rows(0, 1), x.rows(0, 1), cache, cache, s.ints("lengths", 3, 4, 1), heads));
        count("cacheWrite", 1, () -> b.cacheWrite(cache, k.rows(0, 1), s.ints("at", 2, 3, 1)));
        Tensor codes = s.ints("codes", 0, 100, 1, 10, 2), scales = s.positive("scales", 1, 10, 1);
        count("cachePack", 1, () -> b.cachePack(codes, scales, k.rows(0, 1), s.ints("at", 2, 3, 1), new RowGrid(4, true, false)));
        count("cacheUnpack", 1, () -> b.cacheUnpack(cache, codes, scales, s.ints("lengths", 3, 4, 1), new RowGrid(4, true, false)));
        count("swiglu", 1, () -> b.swiglu(y, x, x));
        count("swigluBack", 1, () -> b.swigluBack(to(dx), to(y), x, x, x));
    }

    private void losses(CudaBackend b, Stage s) {
        Tensor x = s.operand("x", 8, 16), w = s.operand("w", 50, 16), targets = s.ints("targets", -1, 50, 8), loss = s.empty("loss", 8),
                one = s.empty("one", 1);
        Tensor dx = s.empty("dx", 8, 16), dw = s.empty("dw", 50, 16), logits = s.empty("logits", 4, 50), tlogits = s.empty("tlogits", 4, 50);
        Tensor a = s.normal("a", 1000), t = s.normal("t", 1000);
        count("crossEntropy of two chunks", 8, () -> b.crossEntropy(loss, to(dx), to(dw), logits, x, w, targets, 1));
        count("crossEntropy, head frozen", 6, () -> b.crossEntropy(loss, to(dx), Grad.NONE, logits, x, w, targets, 1));
        count("crossEntropy, loss only", 4, () -> b.crossEntropy(loss, Grad.NONE, Grad.NONE, logits, x, w, targets, 1));
        count("distill of two chunks", 10, () -> b.distill(loss, to(dx), to(dw), logits, tlogits, x, w, x, w, targets, Divergence.KL, 1));
        count("compare of two chunks", 6, () -> b.compare(s.empty("stats", 8, 3), logits, tlogits, x, w, x, w, targets));
        count("mse", 2, () -> b.mse(one, to(a), a, t));
        count("sample", 1, () -> b.sample(s.on().memory().tensor("tokens", DType.I32, 4), logits, s.ints("keys", 0, 9, 4, 2),
                new dev.qat.ops.Sampling(1, 5, 0.9f, 7)));
    }

    private void quantizers(CudaBackend b, Stage s) {
        Grid grid = new Grid(2, 64);
        Tensor w = s.normal("w", 8, 128), y = s.operand("y", 8, 128), dy = s.normal("dy", 8, 128), step = s.empty("step", 8, 2),
                zero = s.empty("zero", 8, 2);
        Tensor ds = s.empty("ds", 8, 2), dz = s.empty("dz", 8, 2), words = s.ints("words", 0, 9, 8, PackedWeight.wordsPerRow(128, 2));
        Tensor wide = s.normal("wide", 20_000), out = s.empty("out", 20_000), single = s.positive("single", 1, 1), dsingle = s.empty("dsingle", 1);
        PackedWeight packed = new PackedWeight("w", 2, 64, 128, words, s.empty("step′", 8, 2), s.empty("zero′", 8, 2), null);
        count("groupRange", 1, () -> b.groupRange(step, zero, w, grid));
        count("fakeQuant", 1, () -> b.fakeQuant(y, w, step, zero, grid));
        count("fakeQuantBack", 1, () -> b.fakeQuantBack(to(dy), to(ds), to(dz), dy, w, step, zero, grid));
        count("pack", 1, () -> b.pack(packed, w, step, zero));
        count("dequantize", 1, () -> b.dequantize(y, packed, step));
        count("dequantizeBack", 1, () -> b.dequantizeBack(to(ds), dy, packed));
        count("lsq", 1, () -> b.lsq(y, w, step, grid));
        count("lsqBack", 1, () -> b.lsqBack(to(dy), to(ds), dy, w, step, grid));
        count("lsqBack of one long group", 2, () -> b.lsqBack(to(out), to(dsingle), wide, wide, single, new Grid(4, 20_000)));
        count("rowQuant", 1, () -> b.rowQuant(y, w, new RowGrid(4, true, false)));
        count("rowQuantBack", 1, () -> b.rowQuantBack(to(dy), dy, w, new RowGrid(4, true, true)));
    }
}
