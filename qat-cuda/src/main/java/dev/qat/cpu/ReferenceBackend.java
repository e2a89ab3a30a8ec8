package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;
import static dev.qat.tensor.HostMemory.getInt;

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
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/**
 * The specification of every op: plain loops with double accumulators, on one thread, written to be read.
 *
 * <p>What other backends must match bit for bit (copies, quantizers, random numbers) is computed here in fp32 in the order of
 * {@link Backend}'s formulas; all else is rounded to fp32 once, at the end. With BF16 operands it stands in for a device whose
 * products read BF16: such tensors are read as floats and written to the nearest even.
 */
public final class ReferenceBackend implements Backend {
    private final HostMemory memory = new HostMemory();
    private final DType operand;

    public ReferenceBackend() {
        this(DType.F32);
    }

    public ReferenceBackend(DType operand) {
        Fail.unless(operand == DType.F32 || operand == DType.BF16, "products read F32 or BF16, not %s", operand);
        this.operand = operand;
    }

    @Override
    public String name() {
        return "reference";
    }

    @Override
    public Memory memory() {
        return memory;
    }

    @Override
    public DType operand() {
        return operand;
    }

    @Override
    public void sync() {}

    @Override
    public void close() {
        for (Memory.Slab slab : memory.slabs()) memory.free(slab.address());
    }

    // ---- moving and adding -------------------------------------------------------------------------------------------

    @Override
    public void copy(Tensor y, Tensor x) {
        if (y.type == x.type) {
            MemorySegment.copy(HostMemory.ALL, x.address, HostMemory.ALL, y.address, x.bytes());
        } else {
            for (long i = 0; i < x.size(); i++) put(y, i, get(x, i));
        }
    }

    @Override
    public void fill(Tensor y, float v) {
        for (long i = 0; i < y.size(); i++) put(y, i, v);
    }

    @Override
    public void add(Tensor y, Tensor a, Tensor b) {
        for (long i = 0; i < y.size(); i++) put(y, i, get(a, i) + get(b, i));
    }

    @Override
    public void scale(Tensor y, Tensor x, float s) {
        for (long i = 0; i < y.size(); i++) put(y, i, s * get(x, i));
    }

    @Override
    public void accumulate(Grad dx, Tensor dy, float s) {
        for (long i = 0; i < dy.size(); i++) give(dx, i, s * get(dy, i));
    }

    @Override
    public void sum(Tensor y, Tensor x, float s) {
        double sum = 0;
        for (long i = 0; i < x.size(); i++) sum += get(x, i);
        put(y, 0, s * sum);
    }

    // ---- the decoder -------------------------------------------------------------------------------------------------

    @Override
    public void embed(Tensor y, Tensor ids, Tensor table) {
        long C = table.cols();
        for (long n = 0; n < ids.size(); n++) {
            for (long c = 0; c < C; c++) put(y, n * C + c, get(table, row(ids, n, table) * C + c));
        }
    }

    @Override
    public void embedBack(Grad dtable, Tensor dy, Tensor ids) {
        if (!dtable.wanted()) return;
        long C = dy.cols();
        double[] sum = new double[Math.toIntExact(dtable.to().size())];
        for (long n = 0; n < ids.size(); n++) {
            for (long c = 0; c < C; c++) sum[(int) (row(ids, n, dtable.to()) * C + c)] += get(dy, n * C + c);
        }
        for (int i = 0; i < sum.length; i++) give(dtable, i, sum[i]);
    }

    private static long row(Tensor ids, long n, Tensor table) {
        int id = getInt(ids, n);
        Fail.unless(0 <= id && id < table.rows(), "id %d at %d is not a row of %s", id, n, table);
        return id;
    }

    @Override
    public void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        ReferenceLayers.linear(y, x, w, bias, plus);
    }

    @Override
    public void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        ReferenceLayers.linearBack(dx, dw, dbias, dy, x, w);
    }

    @Override
    public void rmsnorm(Tensor y, Tensor rstd, Tensor x, Tensor gain, float eps) {
        ReferenceLayers.rmsnorm(y, rstd, x, gain, eps);
    }

    @Override
    public void rmsnormBack(Grad dx, Grad dgain, Tensor dy, Tensor x, Tensor gain, Tensor rstd) {
        ReferenceLayers.rmsnormBack(dx, dgain, dy, x, gain, rstd);
    }

    @Override
    public void rmsScale(Tensor y, Tensor u, Tensor x, Tensor plus, float eps, int power) {
        ReferenceLayers.rmsScale(y, u, x, plus, eps, power);
    }

    @Override
    public void rmsScaleBack(Grad du, Grad dx, Tensor dy, Tensor u, Tensor x, float eps, int power) {
        ReferenceLayers.rmsScaleBack(du, dx, dy, u, x, eps, power);
    }

    @Override
    public void rope(Tensor y, Tensor x, Tensor table, Tensor positions) {
        ReferenceLayers.turn(new Grad(y, false), x, table, positions, 1);
    }

    @Override
    public void ropeBack(Grad dx, Tensor dy, Tensor table, Tensor positions) {
        ReferenceLayers.turn(dx, dy, table, positions, -1);
    }

    @Override
    public void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads) {
        ReferenceAttention.attention(o, lse, q, k, v, heads);
    }

    @Override
    public void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads) {
        ReferenceAttention.attentionBack(dq, dk, dv, delta, dy, o, lse, q, k, v, heads);
    }

    @Override
    public void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads heads) {
        ReferenceAttention.attentionCache(o, q, k, v, lengths, heads);
    }

    @Override
    public void cacheWrite(Tensor cache, Tensor x, Tensor positions) {
        long C = x.cols(), Tmax = cache.dim(1);
        for (long b = 0; b < x.rows(); b++) {
            int t = getInt(positions, b);
            Fail.unless(0 <= t && t < Tmax, "position %d of sequence %d is outside %s", t, b, cache);
            for (long c = 0; c < C; c++) put(cache, (b * Tmax + t) * C + c, get(x, b * C + c));
        }
    }

    @Override
    public void cachePack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid) {
        ReferenceCache.pack(codes, scales, x, positions, grid);
    }

    @Override
    public void cacheUnpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid) {
        ReferenceCache.unpack(y, codes, scales, lengths, grid);
    }

    @Override
    public void swiglu(Tensor y, Tensor gate, Tensor up) {
        ReferenceLayers.swiglu(y, gate, up);
    }

    @Override
    public void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up) {
        ReferenceLayers.swigluBack(dgate, dup, dy, gate, up);
    }

    // ---- losses ------------------------------------------------------------------------------------------------------

    @Override
    public void crossEntropy(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor x, Tensor w, Tensor targets, float weight) {
        ReferenceLosses.crossEntropy(loss, dx, dw, x, w, targets, weight);
    }

    @Override
    public void distill(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw,
                        Tensor targets, Divergence divergence, float weight) {
        ReferenceLosses.distill(loss, dx, dw, x, w, tx, tw, targets, divergence, weight);
    }

    @Override
    public void compare(Tensor stats, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets) {
        ReferenceLosses.compare(stats, x, w, tx, tw, targets);
    }

    @Override
    public void mse(Tensor loss, Grad dx, Tensor x, Tensor target) {
        double sum = 0;
        for (long i = 0; i < x.size(); i++) {
            double gap = (double) get(x, i) - get(target, i);
            sum += gap * gap;
            give(dx, i, 2 * gap / x.size());
        }
        put(loss, 0, sum / x.size());
    }

    // ---- quantizers --------------------------------------------------------------------------------------------------

    @Override
    public void groupRange(Tensor step, Tensor zero, Tensor w, Grid grid) {
        ReferenceQuantizers.groupRange(step, zero, w, grid);
    }

    @Override
    public void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid) {
        ReferenceQuantizers.fakeQuant(y, w, step, zero, grid);
    }

    @Override
    public void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid) {
        ReferenceQuantizers.fakeQuantBack(dw, dstep, dzero, dy, w, step, zero, grid);
    }

    @Override
    public void pack(PackedWeight packed, Tensor w, Tensor step, Tensor zero) {
        ReferenceQuantizers.pack(packed, w, step, zero);
    }

    @Override
    public void dequantize(Tensor y, PackedWeight packed, Tensor step) {
        ReferenceQuantizers.dequantize(y, packed, step);
    }

    @Override
    public void dequantizeBack(Grad dstep, Tensor dy, PackedWeight packed) {
        ReferenceQuantizers.dequantizeBack(dstep, dy, packed);
    }

    @Override
    public void snap(Tensor y, Tensor x, Snap how) {
        ReferenceQuantizers.snap(y, x, how);
    }

    @Override
    public void lsq(Tensor y, Tensor w, Tensor step, Grid grid) {
        ReferenceQuantizers.lsq(y, w, step, grid);
    }

    @Override
    public void lsqBack(Grad dw, Grad dstep, Tensor dy, Tensor w, Tensor step, Grid grid) {
        ReferenceQuantizers.lsqBack(dw, dstep, dy, w, step, grid);
    }

    @Override
    public void rowQuant(Tensor y, Tensor x, RowGrid grid) {
        ReferenceQuantizers.rowQuant(y, x, grid);
    }

    @Override
    public void rowQuantBack(Grad dx, Tensor dy, Tensor x, RowGrid grid) {
        ReferenceQuantizers.rowQuantBack(dx, dy, x, grid);
    }

    @Override
    public void minMaxQuant(Tensor y, Tensor w, Grid grid) {
        ReferenceQuantizers.minMaxQuant(y, w, grid);
    }

    @Override
    public void minMaxQuantBack(Grad dw, Tensor dy, Tensor w, Grid grid) {
        ReferenceQuantizers.minMaxQuantBack(dw, dy, w, grid);
    }

    @Override
    public void channelScale(Tensor y, Tensor x, Tensor tau, Channels how) {
        ReferenceTransforms.channelScale(y, x, tau, how);
    }

    @Override
    public void channelScaleBack(Grad dx, Grad dtau, Tensor dy, Tensor x, Tensor tau, Channels how) {
        ReferenceTransforms.channelScaleBack(dx, dtau, dy, x, tau, how);
    }

    @Override
    public void hadamard(Tensor y, Tensor x, int size, int apart) {
        ReferenceTransforms.hadamard(y, x, size, apart);
    }

    @Override
    public void hadamardBack(Grad dx, Tensor dy, int size, int apart) {
        ReferenceTransforms.hadamardBack(dx, dy, size, apart);
    }

    @Override
    public void mixHeads(Tensor y, Tensor x, Tensor m, Mix how) {
        ReferenceTransforms.mixHeads(new Grad(y, false), x, m, how);
    }

    @Override
    public void mixHeadsBack(Grad dx, Grad dm, Tensor dy, Tensor x, Tensor m, Mix how) {
        ReferenceTransforms.mixHeadsBack(dx, dm, dy, x, m, how);
    }

    // ---- ternary -----------------------------------------------------------------------------------------------------

    @Override
    public void ternaryRange(Tensor scale, Tensor edge, Tensor w, Threshold rule, int group) {
        ReferenceTernary.range(scale, edge, w, rule, group);
    }

    @Override
    public void ternary(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits trits) {
        ReferenceTernary.forward(y, w, scale, edge, shift, residual, trits);
    }

    @Override
    public void ternaryBack(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits trits) {
        ReferenceTernary.back(dw, dscale, dshift, dy, w, scale, edge, residual, trits);
    }

    @Override
    public void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign) {
        ReferenceTernary.reactivate(bias, dead, plus, w, scale, edge, epsilon, trits, sign);
    }

    @Override
    public void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign) {
        ReferenceTernary.reactivateBack(dw, depsilon, dy, w, scale, edge, epsilon, trits, sign);
    }

    // ---- optimizer ---------------------------------------------------------------------------------------------------

    @Override
    public void sumSquares(Tensor y, Tensor x) {
        double sum = 0 * get(y, 0);
        for (long i = 0; i < x.size(); i++) sum += (double) get(x, i) * get(x, i);
        put(y, 0, sum);
    }

    @Override
    public void adamw(Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares) {
        ReferenceAdamW.step(p, g, m, v, hyper, squares);
    }

    // ---- random numbers ----------------------------------------------------------------------------------------------

    @Override
    public void uniform(Tensor y, Tensor key) {
        ReferenceSampling.uniform(y, key);
    }

    @Override
    public void sample(Tensor ids, Tensor logits, Tensor keys, Sampling sampling) {
        ReferenceSampling.sample(ids, logits, keys, sampling);
    }
}
