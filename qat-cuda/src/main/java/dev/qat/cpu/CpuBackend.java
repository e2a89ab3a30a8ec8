package dev.qat.cpu;

import dev.qat.ops.Backend;
import dev.qat.ops.Channels;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.Heads;
import dev.qat.ops.Mix;
import dev.qat.ops.Philox;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Sampling;
import dev.qat.ops.Snap;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.DType;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.getInt;
import static dev.qat.cpu.Lanes.put;

/**
 * The fast CPU backend: OpenBLAS for products, fused Vector API loops for the rest, a team of threads over rows.
 * The same inputs on the same number of threads give the same bits.
 */
public final class CpuBackend implements Backend {
    private final HostMemory memory = new HostMemory();
    private final Threads team;
    private final Moves moves;
    private final Products products;
    private final Layers layers;
    private final Attention attention;
    private final Losses losses;
    private final Quantizers quantizers;
    private final Transforms transforms;
    private final IntegerCache integers;
    private final Ternary ternary;

    /** @param threads size of the team; 0 takes every core of the machine */
    public CpuBackend(int threads) {
        team = new Threads(threads > 0 ? threads : Runtime.getRuntime().availableProcessors());
        moves = new Moves(team);
        products = new Products(team);
        layers = new Layers(team, memory);
        attention = new Attention(team, memory);
        losses = new Losses(team, products, moves);
        quantizers = new Quantizers(team);
        transforms = new Transforms(team, memory);
        integers = new IntegerCache(team);
        ternary = new Ternary(team);
    }

    Threads team() {
        return team;
    }

    public int threads() {
        return team.count();
    }

    /** What the products run on, for reports: OpenBLAS and the processor family it chose. */
    public static String blas() {
        return "OpenBLAS " + Blas.core();
    }

    @Override
    public String name() {
        return "cpu";
    }

    @Override
    public Memory memory() {
        return memory;
    }

    @Override
    public DType operand() {
        return DType.F32;
    }

    @Override
    public void sync() {}

    @Override
    public void close() {
        attention.close();
        layers.close();
        transforms.close();
        team.close();
    }

    @Override
    public void copy(Tensor y, Tensor x) {
        moves.copy(y, x);
    }

    @Override
    public void fill(Tensor y, float v) {
        moves.fill(y, v);
    }

    @Override
    public void add(Tensor y, Tensor a, Tensor b) {
        moves.add(y, a, b);
    }

    @Override
    public void scale(Tensor y, Tensor x, float s) {
        moves.scale(y, false, x, s);
    }

    @Override
    public void accumulate(Grad dx, Tensor dy, float s) {
        moves.accumulate(dx, dy, s);
    }

    @Override
    public void sum(Tensor y, Tensor x, float s) {
        put(y.address, (float) (s * moves.sum(x)));
    }

    @Override
    public void embed(Tensor y, Tensor ids, Tensor table) {
        layers.embed(y, ids, table);
    }

    @Override
    public void embedBack(Grad dtable, Tensor dy, Tensor ids) {
        layers.embedBack(dtable, dy, ids);
    }

    @Override
    public void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        products.linear(y, x, w, bias, plus);
    }

    @Override
    public void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        products.linearBack(dx, dw, dbias, dy, x, w);
    }

    @Override
    public void rmsnorm(Tensor y, Tensor rstd, Tensor x, Tensor gain, float eps) {
        layers.rmsnorm(y, rstd, x, gain, eps);
    }

    @Override
    public void rmsnormBack(Grad dx, Grad dgain, Tensor dy, Tensor x, Tensor gain, Tensor rstd) {
        layers.rmsnormBack(dx, dgain, dy, x, gain, rstd);
    }

    @Override
    public void rmsScale(Tensor y, Tensor u, Tensor x, Tensor plus, float eps, int power) {
        layers.rmsScale(y, u, x, plus, eps, power);
    }

    @Override
    public void rmsScaleBack(Grad du, Grad dx, Tensor dy, Tensor u, Tensor x, float eps, int power) {
        layers.rmsScaleBack(du, dx, dy, u, x, eps, power);
    }

    @Override
    public void rope(Tensor y, Tensor x, Tensor table, Tensor positions) {
        layers.rope(y, x, table, positions);
    }

    @Override
    public void ropeBack(Grad dx, Tensor dy, Tensor table, Tensor positions) {
        layers.ropeBack(dx, dy, table, positions);
    }

    @Override
    public void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads) {
        attention.attention(o, lse, q, k, v, heads);
    }

    @Override
    public void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads) {
        attention.attentionBack(dq, dk, dv, delta, dy, o, lse, q, k, v, heads);
    }

    @Override
    public void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads heads) {
        attention.attentionCache(o, q, k, v, lengths, heads);
    }

    @Override
    public void cacheWrite(Tensor cache, Tensor x, Tensor positions) {
        attention.cacheWrite(cache, x, positions);
    }

    @Override
    public void cachePack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid) {
        integers.pack(codes, scales, x, positions, grid);
    }

    @Override
    public void cacheUnpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid) {
        integers.unpack(y, codes, scales, lengths, grid);
    }

    @Override
    public void swiglu(Tensor y, Tensor gate, Tensor up) {
        layers.swiglu(y, gate, up);
    }

    @Override
    public void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up) {
        layers.swigluBack(dgate, dup, dy, gate, up);
    }

    @Override
    public void crossEntropy(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor x, Tensor w, Tensor targets, float weight) {
        losses.crossEntropy(loss, dx, dw, logits, x, w, targets, weight);
    }

    @Override
    public void distill(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw,
                        Tensor targets, Divergence divergence, float weight) {
        losses.distill(loss, dx, dw, logits, tlogits, x, w, tx, tw, targets, divergence, weight);
    }

    @Override
    public void compare(Tensor stats, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets) {
        losses.compare(stats, logits, tlogits, x, w, tx, tw, targets);
    }

    @Override
    public void mse(Tensor loss, Grad dx, Tensor x, Tensor target) {
        losses.mse(loss, dx, x, target);
    }

    @Override
    public void groupRange(Tensor step, Tensor zero, Tensor w, Grid grid) {
        quantizers.groupRange(step, zero, w, grid);
    }

    @Override
    public void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid) {
        quantizers.fakeQuant(y, w, step, zero, grid);
    }

    @Override
    public void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid) {
        quantizers.fakeQuantBack(dw, dstep, dzero, dy, w, step, zero, grid);
    }

    @Override
    public void pack(PackedWeight packed, Tensor w, Tensor step, Tensor zero) {
        quantizers.pack(packed, w, step, zero);
    }

    @Override
    public void dequantize(Tensor y, PackedWeight packed, Tensor step) {
        quantizers.dequantize(y, packed, step);
    }

    @Override
    public void dequantizeBack(Grad dstep, Tensor dy, PackedWeight packed) {
        quantizers.dequantizeBack(dstep, dy, packed);
    }

    @Override
    public void snap(Tensor y, Tensor x, Snap how) {
        quantizers.snap(y, x, how);
    }

    @Override
    public void lsq(Tensor y, Tensor w, Tensor step, Grid grid) {
        quantizers.lsq(y, w, step, grid);
    }

    @Override
    public void lsqBack(Grad dw, Grad dstep, Tensor dy, Tensor w, Tensor step, Grid grid) {
        quantizers.lsqBack(dw, dstep, dy, w, step, grid);
    }

    @Override
    public void rowQuant(Tensor y, Tensor x, RowGrid grid) {
        quantizers.rowQuant(y, x, grid);
    }

    @Override
    public void rowQuantBack(Grad dx, Tensor dy, Tensor x, RowGrid grid) {
        quantizers.rowQuantBack(dx, dy, x, grid);
    }

    @Override
    public void minMaxQuant(Tensor y, Tensor w, Grid grid) {
        quantizers.minMaxQuant(y, w, grid);
    }

    @Override
    public void minMaxQuantBack(Grad dw, Tensor dy, Tensor w, Grid grid) {
        quantizers.minMaxQuantBack(dw, dy, w, grid);
    }

    @Override
    public void channelScale(Tensor y, Tensor x, Tensor tau, Channels how) {
        transforms.channelScale(y, x, tau, how);
    }

    @Override
    public void channelScaleBack(Grad dx, Grad dtau, Tensor dy, Tensor x, Tensor tau, Channels how) {
        transforms.channelScaleBack(dx, dtau, dy, x, tau, how);
    }

    @Override
    public void hadamard(Tensor y, Tensor x, int size, int apart) {
        transforms.hadamard(y, x, size, apart);
    }

    @Override
    public void hadamardBack(Grad dx, Tensor dy, int size, int apart) {
        transforms.hadamardBack(dx, dy, size, apart);
    }

    @Override
    public void mixHeads(Tensor y, Tensor x, Tensor m, Mix how) {
        transforms.mixHeads(new Grad(y, false), x, m, how);
    }

    @Override
    public void mixHeadsBack(Grad dx, Grad dm, Tensor dy, Tensor x, Tensor m, Mix how) {
        transforms.mixHeadsBack(dx, dm, dy, x, m, how);
    }

    @Override
    public void ternaryRange(Tensor scale, Tensor edge, Tensor w, Threshold rule, int group) {
        ternary.range(scale, edge, w, rule, group);
    }

    @Override
    public void ternary(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits trits) {
        ternary.forward(y, w, scale, edge, shift, residual, trits);
    }

    @Override
    public void ternaryBack(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits trits) {
        ternary.back(dw, dscale, dshift, dy, w, scale, edge, residual, trits);
    }

    @Override
    public void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign) {
        ternary.reactivate(bias, dead, plus, w, scale, edge, epsilon, trits, sign);
    }

    @Override
    public void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign) {
        ternary.reactivateBack(dw, depsilon, dy, w, scale, edge, epsilon, trits, sign);
    }

    @Override
    public void sumSquares(Tensor y, Tensor x) {
        put(y.address, (float) (0 * get(y.address) + moves.squares(x)));
    }

    @Override
    public void adamw(Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares) {
        AdamW.step(team, p, g, m, v, hyper, squares);
    }

    @Override
    public void uniform(Tensor y, Tensor key) {
        int k0 = getInt(key.address), k1 = getInt(key.address + 4), c1 = getInt(key.address + 8), c2 = getInt(key.address + 12);
        team.each(y.size(), 4, (t, from, to) -> {
            for (long i = from; i < to; i++) put(y.address + 4 * i, Philox.unit(Philox.word(k0, k1, i, c1, c2)));
        });
    }

    @Override
    public void sample(Tensor ids, Tensor logits, Tensor keys, Sampling sampling) {
        long v = logits.cols();
        team.each(logits.rows(), 1, (t, from, to) -> {
            for (long b = from; b < to; b++) {
                float u = Philox.uniform(sampling.seed(), 0, getInt(keys.address + 8 * b), getInt(keys.address + 8 * b + 4));
                Lanes.putInt(ids.address + 4 * b, Choice.draw(logits.address + 4 * b * v, (int) v, sampling, u));
            }
        });
    }
}
