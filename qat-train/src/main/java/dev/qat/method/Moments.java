package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Backend;
import dev.qat.ops.Grad;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;

/** The second moments Σ x xᵀ of a linear's input, summed on the device by a function in its input site that changes nothing. */
final class Moments implements AutoCloseable {
    private final Linear linear;
    private final Memory memory;
    private final Tensor gram;   // (I, I)

    Moments(Backend backend, Linear linear) {
        this.linear = linear;
        this.memory = backend.memory();
        gram = memory.tensor("moments of " + linear.name, linear.inputs(), linear.inputs());
        backend.fill(gram, 0);
        linear.inputSite.add((t, x) -> {
            Tensor in = t.operand(x);
            t.backend().linearBack(Grad.NONE, new Grad(gram, true), Grad.NONE, in, in, gram);
            return x;
        });
    }

    /** (I, I) */
    double[] values() {
        float[] f = memory.floats(gram);
        double[] d = new double[f.length];
        for (int i = 0; i < d.length; i++) d[i] = f[i];
        return d;
    }

    /** Stops looking. */
    @Override
    public void close() {
        linear.inputSite.clear();
        memory.free(gram.address);
    }
}
