package dev.qat.ops;

import dev.qat.tensor.Tensor;

/** Where an op puts a gradient: the first caller writes, later callers add; NONE (to == null) says the work can be skipped. */
public record Grad(Tensor to, boolean add) {
    public static final Grad NONE = new Grad(null, false);

    public boolean wanted() {
        return to != null;
    }
}
