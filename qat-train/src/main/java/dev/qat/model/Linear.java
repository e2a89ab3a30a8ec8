package dev.qat.model;

import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;

/** y = x · wᵀ + bias, with a site on the way of its weight and of its input. */
public final class Linear {
    public final String name;
    public final Param weight;   // (O, I)
    public final Param bias;     // (O) or null
    public final Site weightSite = new Site();
    public final Site inputSite = new Site();

    Linear(String name, Param weight, Param bias) {
        this.name = name;
        this.weight = weight;
        this.bias = bias;
    }

    /** {@code plus} is added to the product on the way (a residual), or null.   x (N, I) → (N, O) */
    Tensor forward(Tape t, Tensor x, Tensor plus) {
        Fail.unless(weight.resident() || !weightSite.isEmpty(), "%s is not in memory, and no codes stand for it", weight.name());
        Tensor in = inputSite.through(t, x), b = bias == null ? null : bias.value();
        if (weightSite.isBrief()) return Ops.linear(t, in, () -> weightSite.through(t, weight.value()), outputs(), b, plus);
        return Ops.linear(t, in, weightSite.through(t, weight.value()), b, plus);
    }

    public long outputs() {
        return weight.value().rows();
    }

    public long inputs() {
        return weight.value().cols();
    }
}
