package dev.qat.model;

import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;

/** y = x · wᵀ + bias, with a site on the way of its weight, of its input and of its bias. */
public final class Linear {
    public final String name;
    public final Param weight;   // (O, I)
    /** (O) or null; a merge may give a linear one. */
    public Param bias;
    public final Site weightSite = new Site();
    public final Site inputSite = new Site();
    /** Runs before the weight's site, so that its gradient comes after; its argument is null where there is no bias. */
    public final Site biasSite = new Site();
    /** How a decoder's products are made in place of the weight's, or null. */
    public Direct direct;

    /** A product that nothing is recorded of.   x (N, I)  bias (O), plus (N, O) or null → (N, O) */
    @FunctionalInterface
    public interface Direct {
        Tensor apply(Tape t, Tensor x, Tensor bias, Tensor plus);
    }

    Linear(String name, Param weight, Param bias) {
        this.name = name;
        this.weight = weight;
        this.bias = bias;
    }

    /** {@code plus} is added to the product on the way (a residual), or null.   x (N, I) → (N, O) */
    public Tensor forward(Tape t, Tensor x, Tensor plus) {
        Fail.unless(weight.resident() || !weightSite.isEmpty(), "%s is not in memory, and no codes stand for it", weight.name());
        Tensor b = biasSite.through(t, bias == null ? null : bias.value()), in = inputSite.through(t, x);
        if (weightSite.isBrief()) return Ops.linear(t, in, () -> weightSite.through(t, weight.value()), outputs(), b, plus);
        return Ops.linear(t, in, weightSite.through(t, weight.value()), b, plus);
    }

    /** The same for one token of every sequence, by {@link #direct} where there is one.   x (B, I) → (B, O) */
    Tensor decode(Tape t, Tensor x, Tensor plus) {
        if (direct == null) return forward(t, x, plus);
        return direct.apply(t, inputSite.through(t, x), biasSite.through(t, bias == null ? null : bias.value()), plus);
    }

    /** Gives a linear a bias, in place of the one it had: what a method adds per output. */
    public void bias(Tensor value) {
        bias = new Param(name + ".bias", Param.Kind.BIAS, value);
    }

    public long outputs() {
        return weight.value().rows();
    }

    public long inputs() {
        return weight.value().cols();
    }
}
