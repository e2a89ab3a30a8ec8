package dev.qat.cuda;

import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;

/** A backend and tensors on it, their values drawn from their names: the same on every backend. */
record Stage(Backend on) {
    Tensor normal(String name, long... dims) {
        Tensor t = on.memory().tensor(name, dims);
        on.memory().set(t, Floats.normal(Math.toIntExact(t.size()), name.hashCode()));
        return t;
    }

    /** The same, as products read it. */
    Tensor operand(String name, long... dims) {
        Tensor t = on.memory().tensor(name + " operand", on.operand(), dims);
        on.copy(t, normal(name, dims));
        return t;
    }

    /** fp32 numbers that BF16 holds exactly. */
    Tensor exact(String name, long... dims) {
        Tensor t = on.memory().tensor(name, dims);
        on.memory().set(t, Floats.values(Floats.bits(Floats.normal(Math.toIntExact(t.size()), name.hashCode()))));
        return t;
    }

    Tensor positive(String name, float least, long... dims) {
        Tensor t = on.memory().tensor(name, dims);
        float[] v = Floats.normal(Math.toIntExact(t.size()), name.hashCode());
        for (int i = 0; i < v.length; i++) v[i] = least + Math.abs(v[i]);
        on.memory().set(t, v);
        return t;
    }

    Tensor empty(String name, long... dims) {
        return on.memory().tensor(name, dims);
    }

    /** Whole numbers in [from, to). */
    Tensor ints(String name, int from, int to, long... dims) {
        Tensor t = on.memory().tensor(name, DType.I32, dims);
        int[] v = new int[Math.toIntExact(t.size())];
        for (int i = 0; i < v.length; i++) v[i] = from + Math.floorMod(7919 * i + name.hashCode(), to - from);
        on.memory().set(t, v);
        return t;
    }
}
