package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;

/** Mean and largest |x| of every channel of a linear's input, read on the host after each batch. */
final class Magnitudes implements AutoCloseable {
    private final Linear linear;
    private final Memory memory;
    private final Tensor seen;   // (N, I)
    private final double[] sums, most;
    private long rows;

    /** @param N rows of a batch */
    Magnitudes(Memory memory, Linear linear, long N) {
        this.linear = linear;
        this.memory = memory;
        seen = memory.tensor("inputs of " + linear.name, N, linear.inputs());
        sums = new double[Math.toIntExact(linear.inputs())];
        most = new double[sums.length];
        linear.inputSite.add((t, x) -> {
            t.backend().copy(seen, x);
            return x;
        });
    }

    /** Takes the batch that has just passed into account. */
    void take() {
        float[] x = memory.floats(seen);
        for (int i = 0; i < x.length; i++) {
            float v = Math.abs(x[i]);
            sums[i % sums.length] += v;
            most[i % sums.length] = Math.max(most[i % sums.length], v);
        }
        rows += seen.rows();
    }

    /** Mean |x| per channel. */
    double[] means() {
        double[] m = new double[sums.length];
        for (int i = 0; i < m.length; i++) m[i] = sums[i] / rows;
        return m;
    }

    /** max |x| per channel */
    double[] largest() {
        return most.clone();
    }

    /** Stops looking. */
    @Override
    public void close() {
        linear.inputSite.clear();
        memory.free(seen.address);
    }
}
