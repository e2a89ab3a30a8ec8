package dev.qat.train;

import dev.qat.ops.Backend;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.Arrays;
import java.util.List;

/** What "peak" means in this project: the median speed of a 2048³ product on the same device and threads. */
public final class Peak {
    private static final int SIZE = 2048, RUNS = 7, WARMUP = 2;

    private Peak() {}

    /** Operations per second. */
    public static double measure(Backend backend) {
        Memory m = backend.memory();
        Tensor a = m.tensor("a", SIZE, SIZE), b = m.tensor("b", a.dims()), y = m.tensor("y", a.dims());
        backend.fill(a, 0.5f);
        backend.fill(b, 0.25f);
        double[] seconds = new double[RUNS];
        for (int i = -WARMUP; i < RUNS; i++) {
            long start = System.nanoTime();
            backend.linear(y, a, b, null, null);
            backend.sync();
            if (i >= 0) seconds[i] = (System.nanoTime() - start) * 1e-9;
        }
        for (Tensor t : List.of(a, b, y)) m.free(t.address);
        Arrays.sort(seconds);
        return 2.0 * SIZE * SIZE * SIZE / seconds[RUNS / 2];
    }
}
