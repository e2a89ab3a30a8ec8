package dev.qat.cuda;

import dev.qat.ops.Backend;
import dev.qat.ops.Channels;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.Heads;
import dev.qat.ops.Mix;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Sampling;
import dev.qat.ops.Snap;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

/**
 * Every op on a CUDA device: products by cuBLAS in the chosen {@link Precision}, the rest by {@code /kernels/<op>.cu}.
 *
 * <p>An op only launches, on one stream; none allocates, waits or reads, so any sequence of ops can be captured as a graph
 * ({@link #stepGraph}). Beside the tensors of its users it holds {@link #HELD} bytes of device memory.
 */
public final class CudaBackend implements Backend {
    /** Device bytes that a backend holds for itself: partial sums of reductions, and cuBLAS' workspace. */
    public static final long HELD = (long) Launcher.SCRATCH * DType.F32.bytes + Device.WORKSPACE;

    private final Device device;
    private final Precision precision;
    private final boolean eager;
    private final CudaMemory memory;
    private final Launcher on;
    private final Elementwise elementwise;
    private final Reductions reductions;
    private final Layers layers;
    private final Attentions attentions;
    private final Losses losses;
    private final Quantizers quantizers;
    private final Transforms transforms;
    private final Ternary ternary;

    /** Takes the device over: closing the backend closes it. Repeated steps are recorded as graphs. */
    public CudaBackend(Device device, Precision precision) {
        this(device, precision, false);
    }

    /** @param eager repeated steps are run op by op, never as graphs: for debugging */
    public CudaBackend(Device device, Precision precision, boolean eager) {
        this.device = device;
        this.precision = precision;
        this.eager = eager;
        memory = new CudaMemory(device);
        on = new Launcher(device, memory.tensor("partial sums", Launcher.SCRATCH));
        elementwise = new Elementwise(on);
        reductions = new Reductions(on);
        Products products = new Products(device, precision);
        layers = new Layers(on, products, reductions);
        attentions = new Attentions(on, precision);
        losses = new Losses(on, products, precision);
        quantizers = new Quantizers(on);
        transforms = new Transforms(on, reductions);
        ternary = new Ternary(on);
    }

    @Override
    public String name() {
        return "cuda";
    }

    @Override
    public Memory memory() {
        return memory;
    }

    /** What the device is, and its lanes for copies beside the computation. */
    public Device device() {
        return device;
    }

    /** A new recorder of steps; {@code eager} ones never capture, for debugging. */
    public StepGraph stepGraph(boolean eager) {
        return new StepGraph(device, memory, eager);
    }

    @Override
    public DType operand() {
        return precision.operand;
    }

    @Override
    public void sync() {
        device.sync();
    }

    /** The step as a graph: two eager runs, one capture, then one launch a step. */
    @Override
    public Repeated repeated(Runnable step) {
        return stepGraph(eager).repeating(step);
    }

    @Override
    public void close() {
        try (device) {
            device.sync();
            memory.close();
        }
    }

    @Override
    public void copy(Tensor y, Tensor x) {
        elementwise.copy(y, x);
    }

    @Override
    public void fill(Tensor y, float v) {
        elementwise.fill(y, v);
    }

    @Override
    public void add(Tensor y, Tensor a, Tensor b) {
        elementwise.add(y, a, b);
    }

    @Override
    public void scale(Tensor y, Tensor x, float s) {
        elementwise.scale(y, x, s);
    }

    @Override
    public void accumulate(Grad dx, Tensor dy, float s) {
        elementwise.accumulate(dx, dy, s);
    }

    @Override
    public void sum(Tensor y, Tensor x, float s) {
        reductions.sum(y, x, s);
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
        layers.linear(y, x, w, bias, plus);
    }

    @Override
    public void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        layers.linearBack(dx, dw, dbias, dy, x, w);
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
        attentions.attention(o, lse, q, k, v, heads);
    }

    @Override
    public void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads) {
        attentions.attentionBack(dq, dk, dv, delta, dy, o, lse, q, k, v, heads);
    }

    @Override
    public void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads heads) {
        attentions.attentionCache(o, q, k, v, lengths, heads);
    }

    @Override
    public void cacheWrite(Tensor cache, Tensor x, Tensor positions) {
        layers.cacheWrite(cache, x, positions);
    }

    @Override
    public void cachePack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid) {
        quantizers.cachePack(codes, scales, x, positions, grid);
    }

    @Override
    public void cacheUnpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid) {
        quantizers.cacheUnpack(y, codes, scales, lengths, grid);
    }

    @Override
    public void swiglu(Tensor y, Tensor gate, Tensor up) {
        elementwise.swiglu(y, gate, up);
    }

    @Override
    public void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up) {
        elementwise.swigluBack(dgate, dup, dy, gate, up);
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
        reductions.mse(loss, dx, x, target);
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
        reductions.sumSquares(y, x);
    }

    @Override
    public void adamw(Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares) {
        elementwise.adamw(p, g, m, v, hyper, squares);
    }

    @Override
    public void uniform(Tensor y, Tensor key) {
        elementwise.uniform(y, key);
    }

    @Override
    public void sample(Tensor ids, Tensor logits, Tensor keys, Sampling sampling) {
        losses.sample(ids, logits, keys, sampling);
    }
}
