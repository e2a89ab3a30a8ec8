package dev.qat.ops;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.function.Supplier;

/** The ops as a model calls them: each allocates its output, computes it, and leaves its backward on the tape. */
public final class Ops {
    private Ops() {}

    /** y_n = table[ids_n].   ids I32 (N)  table (V, C) → (N, C) */
    public static Tensor embed(Tape t, Tensor ids, Tensor table) {
        Tensor y = t.alloc("embed", ids.size(), table.cols());
        t.backend().embed(y, ids, table);
        t.push(y, () -> t.backend().embedBack(t.grad(table), t.gradOf(y), ids), table);
        return y;
    }

    /** y = x · wᵀ + bias + plus.   x (N, I)  w (O, I)  bias (O), plus (N, O) or null → (N, O) */
    public static Tensor linear(Tape t, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        Fail.unless(x.cols() == w.cols(), "linear: %s times the transpose of %s", x, w);
        Tensor y = t.alloc("linear", x.rows(), w.rows());
        Tensor xo = t.operand(x), wo = t.operand(w);
        t.backend().linear(y, xo, wo, bias, plus);
        y.narrowGrad = bias == null && plus == null;
        t.push(y, () -> {
            Tensor dy = t.gradOf(y);
            residual(t, y, plus, x, () -> t.backend().linearBack(t.grad(x), t.grad(w), t.grad(bias), t.operand(dy), xo, wo));
        }, x, w, bias, plus);
        return y;
    }

    /**
     * The same with a weight that is made when it is needed, forwards and backwards, and is in memory for no longer than one
     * product: frozen codes, whose weights would take eight times their place.   weight: (O, I) whenever it is called
     */
    public static Tensor linear(Tape t, Tensor x, Supplier<Tensor> weight, long O, Tensor bias, Tensor plus) {
        Tensor y = t.alloc("linear", x.rows(), O), xo = t.operand(x);
        y.narrowGrad = bias == null && plus == null;
        t.brief(() -> {
            Tensor w = weight.get();
            t.backend().linear(y, xo, t.operand(w), bias, plus);
            y.wants = w.wants;
        });
        t.push(y, () -> {
            Tensor dyo = t.operand(t.gradOf(y));
            Grad dbias = t.grad(bias);
            residual(t, y, plus, x, () -> t.again(weight, w -> t.backend().linearBack(Grad.NONE, t.grad(w), dbias, dyo, xo, w), x,
                    w -> t.backend().linearBack(t.grad(x), Grad.NONE, Grad.NONE, dyo, xo, w)));
        }, x, bias, plus);
        return y;
    }

    /** Gives dy to what was added to a product: itself, once the product's backward has read it, where nothing else was given yet. */
    private static void residual(Tape t, Tensor y, Tensor plus, Tensor x, Runnable product) {
        boolean handsOver = plus != null && plus != x && t.handsOver(y, plus);
        if (plus != null && plus.wants && !handsOver) t.backend().accumulate(t.grad(plus), t.gradOf(y), 1);
        product.run();
        if (handsOver) t.handOver(y, plus);
    }

    /** y = x · gain / rms(x), over the last gain.size elements of each row. */
    public static Tensor rmsnorm(Tape t, Tensor x, Tensor gain, float eps) {
        return rmsnorm(t, x, gain, eps, DType.F32);
    }

    /** The same in a type of its own: that of operands, where only products read it. */
    public static Tensor rmsnorm(Tape t, Tensor x, Tensor gain, float eps, DType type) {
        Tensor y = t.alloc("rmsnorm", type, x.dims()), rstd = t.alloc("rstd", x.size() / gain.size());
        t.backend().rmsnorm(y, rstd, x, gain, eps);
        t.push(y, () -> t.backend().rmsnormBack(t.grad(x), t.grad(gain), t.gradOf(y), x, gain, rstd), x, gain);
        return y;
    }

    /** u times the root mean square of each row of x, or divided by it, with plus (N, U) or null added.   u (N, U)  x (N, C) */
    public static Tensor rmsScale(Tape t, Tensor u, Tensor x, Tensor plus, float eps, int power) {
        Tensor y = t.alloc("rmsScale", u.dims());
        t.backend().rmsScale(y, u, x, plus, eps, power);
        t.push(y, () -> {
            if (plus != null && plus.wants) t.backend().accumulate(t.grad(plus), t.gradOf(y), 1);
            t.backend().rmsScaleBack(t.grad(u), t.grad(x), t.gradOf(y), u, x, eps, power);
        }, u, x, plus);
        return y;
    }

    /** Rotary position embedding of every head.   x (N, heads·D) */
    public static Tensor rope(Tape t, Tensor x, Tensor table, Tensor positions) {
        Tensor y = t.alloc("rope", x.dims());
        t.backend().rope(y, x, table, positions);
        t.push(y, () -> t.backend().ropeBack(t.gradOperand(x), t.gradOf(y), table, positions), x);
        return y;
    }

    /** Causal grouped-query attention.   q (N, H·D)  k, v (N, K·D) → (N, H·D) */
    public static Tensor attention(Tape t, Tensor q, Tensor k, Tensor v, Heads heads) {
        return attention(t, q, k, v, heads, DType.F32);
    }

    public static Tensor attention(Tape t, Tensor q, Tensor k, Tensor v, Heads heads, DType type) {
        Tensor o = t.alloc("attention", type, q.dims()), lse = t.alloc("lse", heads.B(), heads.H(), heads.T());
        t.backend().attention(o, lse, q, k, v, heads);
        o.reread = true;
        t.push(o, () -> {
            Tensor delta = t.alloc("delta", lse.dims());
            t.backend().attentionBack(t.grad(q), t.grad(k), t.grad(v), delta, t.gradOf(o), o, lse, q, k, v, heads);
        }, q, k, v);
        return o;
    }

    /** silu(gate) · up */
    public static Tensor swiglu(Tape t, Tensor gate, Tensor up) {
        return swiglu(t, gate, up, DType.F32);
    }

    public static Tensor swiglu(Tape t, Tensor gate, Tensor up, DType type) {
        Tensor y = t.alloc("swiglu", type, gate.dims());
        t.backend().swiglu(y, gate, up);
        t.push(y, () -> t.backend().swigluBack(t.gradOperand(gate), t.gradOperand(up), t.gradOf(y), gate, up), gate, up);
        return y;
    }

    public static Tensor add(Tape t, Tensor a, Tensor b) {
        Tensor y = t.alloc("add", a.dims());
        t.backend().add(y, a, b);
        t.push(y, () -> {
            if (a.wants) t.backend().accumulate(t.grad(a), t.gradOf(y), 1);
            if (b.wants) t.backend().accumulate(t.grad(b), t.gradOf(y), 1);
        }, a, b);
        return y;
    }

    /** The same elements in other rows. */
    public static Tensor reshape(Tape t, Tensor x, long... dims) {
        Tensor y = t.alloc("reshape", dims);
        Fail.unless(y.size() == x.size(), "%s in the shape of %s", x, y);
        t.backend().copy(y.view(0, x.dims()), x);
        t.push(y, () -> t.backend().accumulate(t.grad(x), t.gradOf(y).view(0, x.dims()), 1), x);
        return y;
    }

    public static Tensor scale(Tape t, Tensor x, float s) {
        Tensor y = t.alloc("scale", x.dims());
        t.backend().scale(y, x, s);
        t.push(y, () -> t.backend().accumulate(t.grad(x), t.gradOf(y), s), x);
        return y;
    }

    /**
     * weight · Σ_n −log softmax(x_n wᵀ)[targets_n], in chunks of rows; recording, it is computed with its gradients in the
     * backward pass, so read it after that.   x (N, C)  w (V, C)  targets I32 (N), < 0 to ignore → loss per row (N)
     */
    public static Tensor crossEntropy(Tape t, Tensor x, Tensor w, Tensor targets, int chunk, float weight) {
        Tensor loss = t.alloc("loss", x.rows());
        Runnable run = () -> {
            Tensor logits = t.alloc("logits", Math.min(chunk, x.rows()), w.rows());
            t.backend().crossEntropy(loss, t.grad(x), t.grad(w), logits, t.operand(x), t.operand(w), targets, weight);
        };
        atTheEnd(t, run);
        return loss;
    }

    /** The same for a divergence from a teacher's hidden states and head.   tx (N, Ct)  tw (V, Ct) */
    public static Tensor distill(Tape t, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets, int chunk,
                                 Divergence divergence, float weight) {
        Tensor loss = t.alloc("loss", x.rows());
        Runnable run = () -> {
            Tensor logits = t.alloc("logits", Math.min(chunk, x.rows()), w.rows());
            Tensor tlogits = t.alloc("teacher logits", logits.dims());
            t.backend().distill(loss, t.grad(x), t.grad(w), logits, tlogits, t.operand(x), t.operand(w), t.operand(tx),
                    t.operand(tw), targets, divergence, weight);
        };
        atTheEnd(t, run);
        return loss;
    }

    /** mean (x − target)² → (1); recording, it is computed in the backward pass. */
    public static Tensor mse(Tape t, Tensor x, Tensor target) {
        Tensor loss = t.alloc("loss", 1);
        mse(t, loss, x, target);
        return loss;
    }

    /** The same into a tensor of the caller's.   loss (1) */
    public static void mse(Tape t, Tensor loss, Tensor x, Tensor target) {
        atTheEnd(t, () -> t.backend().mse(loss, t.grad(x), x, target));
    }

    /** A loss has no consumer, so recording it waits for the backward pass and then makes value and gradient in one go. */
    private static void atTheEnd(Tape t, Runnable run) {
        if (t.recording()) t.pushLoss(run);
        else run.run();
    }

    /** EfficientQAT's fake quantization; step and zero train with the weight.   w (O, I)  step, zero (O, I/G) */
    public static Tensor fakeQuant(Tape t, Tensor w, Tensor step, Tensor zero, Grid grid) {
        Tensor y = t.allocOperand("fakeQuant", w.dims());
        t.backend().fakeQuant(y, w, step, zero, grid);
        t.shareGrad(y, w);
        t.push(y, () -> t.backend().fakeQuantBack(t.gradInPlace(w, y), t.grad(step), t.grad(zero), t.gradOf(y), w, step, zero, grid), w, step, zero);
        return y;
    }

    /** x as a container stores it, straight-through: dx = dy. */
    public static Tensor snap(Tape t, Tensor x, Snap how) {
        Tensor y = t.alloc("snap", x.dims());
        t.backend().snap(y, x, how);
        t.push(y, () -> t.backend().accumulate(t.grad(x), t.gradOf(y), 1), x);
        return y;
    }

    /** Frozen codes with a step that trains. */
    public static Tensor dequantize(Tape t, PackedWeight packed, Tensor step) {
        Tensor y = t.allocOperand("dequantize", packed.rows(), packed.cols());
        t.backend().dequantize(y, packed, step);
        t.push(y, () -> t.backend().dequantizeBack(t.grad(step), t.gradOf(y), packed), step);
        return y;
    }

    /** Learned step size quantization of weights or activations. */
    public static Tensor lsq(Tape t, Tensor w, Tensor step, Grid grid) {
        Tensor y = t.alloc("lsq", w.dims());
        t.backend().lsq(y, w, step, grid);
        t.shareGrad(y, w);
        t.push(y, () -> t.backend().lsqBack(t.gradInPlace(w, y), t.grad(step), t.gradOf(y), w, step, grid), w, step);
        return y;
    }

    /** Min-max fake quantization per row (weights per channel, activations per token). */
    public static Tensor rowQuant(Tape t, Tensor x, RowGrid grid) {
        return rowQuant(t, x, grid, x.cols());
    }

    /** The same with a scale for every {@code group} elements of a row. */
    public static Tensor rowQuant(Tape t, Tensor x, RowGrid grid, long group) {
        Fail.unless(group > 0 && x.cols() % group == 0, "rowQuant: groups of %d in %s", group, x);
        Tensor y = t.alloc("rowQuant", x.dims());
        t.backend().rowQuant(y.view(0, x.size() / group, group), x.view(0, x.size() / group, group), grid);
        t.shareGrad(y, x);
        t.push(y, () -> t.backend().rowQuantBack(t.gradInPlace(x, y), t.gradOf(y), x, grid), x);
        return y;
    }

    /**
     * Min-max quantization of every group on a grid of its own.
     *
     * @param range whether the gradient knows that the grid follows the weights; else it passes straight through, and the grid takes none
     */
    public static Tensor minMaxQuant(Tape t, Tensor w, Grid grid, boolean range) {
        Tensor y = t.allocOperand("minMaxQuant", w.dims());
        t.backend().minMaxQuant(y, w, grid);
        if (range) {
            t.shareGrad(y, w);
            t.push(y, () -> t.backend().minMaxQuantBack(t.gradInPlace(w, y), t.gradOf(y), w, grid), w);
        } else {
            t.push(y, () -> t.backend().accumulate(t.grad(w), t.gradOf(y), 1), w);
        }
        return y;
    }

    /** The same on a grid that is given and takes no gradient; codes beyond its ends are clamped, gradients are not.   step, zero (O, I/G) */
    public static Tensor fixedQuant(Tape t, Tensor w, Tensor step, Tensor zero, Grid grid) {
        Tensor y = t.allocOperand("fixedQuant", w.dims());
        t.backend().fakeQuant(y, w, step, zero, grid);
        t.push(y, () -> t.backend().accumulate(t.grad(w), t.gradOf(y), 1), w);
        return y;
    }

    /** A trainable scale e^±tau per channel.   x (N, C)  tau (C / repeat) */
    public static Tensor channelScale(Tape t, Tensor x, Tensor tau, Channels how) {
        Tensor y = t.alloc("channelScale", x.dims());
        t.backend().channelScale(y, x, tau, how);
        t.push(y, () -> t.backend().channelScaleBack(t.grad(x), t.grad(tau), t.gradOf(y), x, tau, how), x, tau);
        return y;
    }

    /** The orthonormal Hadamard rotation of every {@code size} channels that lie {@code apart} from one another. */
    public static Tensor hadamard(Tape t, Tensor x, int size, int apart) {
        Tensor y = t.alloc("hadamard", x.dims());
        t.backend().hadamard(y, x, size, apart);
        t.push(y, () -> t.backend().hadamardBack(t.grad(x), t.gradOf(y), size, apart), x);
        return y;
    }

    /** The same of neighbours. */
    public static Tensor hadamard(Tape t, Tensor x, int size) {
        return hadamard(t, x, size, 1);
    }

    /** Every head's values times a matrix of its group.   x (P, H, D, inner) in any dims  m (K·D, D) */
    public static Tensor mixHeads(Tape t, Tensor x, Tensor m, Mix how) {
        Tensor y = t.alloc("mixHeads", x.dims());
        t.backend().mixHeads(y, x, m, how);
        t.push(y, () -> t.backend().mixHeadsBack(t.grad(x), t.grad(m), t.gradOf(y), x, m, how), x, m);
        return y;
    }

    /** Ternary weights whose scale is given (edge not null; it never trains) or learned (edge null).   w (O, I)  scale, edge, shift (size/G)  residual (1) */
    public static Tensor ternary(Tape t, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits trits) {
        Fail.unless(scale.size() * trits.group() == w.size(), "%s does not scale %s in groups of %d", scale, w, trits.group());
        Tensor y = t.allocOperand("ternary", w.dims());
        t.backend().ternary(y, w, scale, edge, shift, residual, trits);
        t.shareGrad(y, w);
        t.push(y, () -> t.backend().ternaryBack(t.gradInPlace(w, y), t.grad(edge == null ? scale : null), t.grad(shift), t.gradOf(y), w, scale, edge, residual, trits),
                w, scale, shift);
        return y;
    }

    /**
     * The bias of each row that its dead weights, or with {@code sign} their signs, become. Call it before {@link #ternary} of the same weight, whose
     * gradient works in place. → (O)
     */
    public static Tensor reactivate(Tape t, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign) {
        Tensor y = t.alloc("reactivate", w.rows()), dead = t.alloc("dead", w.rows());
        t.backend().reactivate(y, dead, plus, w, scale, edge, epsilon, trits, sign);
        t.push(y, () -> {
            if (plus != null && plus.wants) t.backend().accumulate(t.grad(plus), t.gradOf(y), 1);
            t.backend().reactivateBack(t.grad(w), t.grad(epsilon), t.gradOf(y), w, scale, edge, epsilon, trits, sign);
        }, plus, w, epsilon);
        return y;
    }
}
