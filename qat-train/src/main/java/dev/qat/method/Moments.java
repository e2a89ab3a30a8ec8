package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.model.Site;
import dev.qat.ops.Backend;
import dev.qat.ops.Grad;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import dev.qat.train.Tally;
import java.lang.foreign.MemorySegment;

/** The second moments Σ x xᵀ of a value, summed on the device by a function in its site that changes nothing. */
final class Moments implements Tally, AutoCloseable {
    private final Site site;
    private final Memory memory;
    private final Tensor gram;   // (I, I)

    /** Of a linear's input. */
    Moments(Backend backend, Linear linear) {
        this(backend, linear.name, linear.inputSite, linear.inputs());
    }

    /** Of whatever passes a site, so many channels of it. */
    Moments(Backend backend, String name, Site site, long channels) {
        this.site = site;
        this.memory = backend.memory();
        gram = memory.tensor("moments of " + name, channels, channels);
        backend.fill(gram, 0);
        site.add((t, x) -> {
            Tensor in = t.operand(x);
            t.backend().linearBack(Grad.NONE, new Grad(gram, true), Grad.NONE, in, in, gram);
            return x;
        });
    }

    @Override
    public long bytes() {
        return gram.bytes();
    }

    @Override
    public MemorySegment sums() {
        return MemorySegment.ofArray(memory.floats(gram));
    }

    @Override
    public void restore(MemorySegment sums) {
        memory.write(gram, sums);
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
        site.clear();
        memory.free(gram.address);
    }
}
