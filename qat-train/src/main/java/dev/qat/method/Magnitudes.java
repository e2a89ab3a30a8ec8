package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import dev.qat.train.Tally;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/** Mean and largest |x| of every channel of a linear's input, read on the host after each batch. */
final class Magnitudes implements Tally, AutoCloseable {
    private final Linear linear;
    private final Memory memory;
    private final Tensor seen;   // (N, I)
    private final int channels;
    /** Σ |x| of every channel, then max |x| of every channel, then the number of rows. */
    private final double[] sums;

    /** @param N rows of a batch */
    Magnitudes(Memory memory, Linear linear, long N) {
        this.linear = linear;
        this.memory = memory;
        seen = memory.tensor("inputs of " + linear.name, N, linear.inputs());
        channels = Math.toIntExact(linear.inputs());
        sums = new double[2 * channels + 1];
        linear.inputSite.add((t, x) -> {
            t.backend().copy(seen, x);
            return x;
        });
    }

    @Override
    public void take() {
        float[] x = memory.floats(seen);
        for (int i = 0; i < x.length; i++) {
            float v = Math.abs(x[i]);
            int c = i % channels;
            sums[c] += v;
            sums[channels + c] = Math.max(sums[channels + c], v);
        }
        sums[2 * channels] += seen.rows();
    }

    @Override
    public long bytes() {
        return 8L * sums.length;
    }

    @Override
    public MemorySegment sums() {
        return MemorySegment.ofArray(sums);
    }

    @Override
    public void restore(MemorySegment was) {
        MemorySegment.copy(was, ValueLayout.JAVA_DOUBLE_UNALIGNED, 0, sums, 0, sums.length);
    }

    /** Mean |x| per channel. */
    double[] means() {
        return Arrays.stream(sums, 0, channels).map(s -> s / sums[2 * channels]).toArray();
    }

    /** max |x| per channel */
    double[] largest() {
        return Arrays.copyOfRange(sums, channels, 2 * channels);
    }

    /** Stops looking. */
    @Override
    public void close() {
        linear.inputSite.clear();
        memory.free(seen.address);
    }
}
