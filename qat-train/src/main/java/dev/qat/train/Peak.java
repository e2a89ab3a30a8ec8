package dev.qat.train;

import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.Arrays;

/**
 * What "peak" means in this project: the median speed of a 2048³ product of random numbers on the same device and threads.
 * Take its times between those of what is compared with it, since a processor's clock moves from second to second.
 */
public final class Peak implements AutoCloseable {
    private static final int SIZE = 2048, RUNS = 3, WARMUP = 2;
    private static final double FLOP = 2.0 * SIZE * SIZE * SIZE;

    private final Backend backend;
    private final Tensor a, b, y;

    Peak(Backend backend) {
        this.backend = backend;
        Memory m = backend.memory();
        a = m.tensor("a", backend.operand(), SIZE, SIZE);
        b = m.tensor("b", backend.operand(), SIZE, SIZE);
        y = m.tensor("y", SIZE, SIZE);
        Tensor key = m.tensor("key", DType.I32, 4);
        m.set(key, 1, 2, 3, 4);
        backend.uniform(y, key);
        backend.copy(a, y);
        backend.copy(b, y);
        m.free(key.address);
        for (int i = 0; i < WARMUP; i++) seconds();
    }

    /** How long the product takes just now. */
    double seconds() {
        long start = System.nanoTime();
        backend.linear(y, a, b, null, null);
        backend.sync();
        return (System.nanoTime() - start) * 1e-9;
    }

    /** Operations per second at the median of these times. */
    static double of(double[] seconds) {
        double[] sorted = seconds.clone();
        Arrays.sort(sorted);
        return FLOP / sorted[sorted.length / 2];
    }

    /** Operations per second, from a few runs. */
    public static double measure(Backend backend) {
        try (Peak peak = new Peak(backend)) {
            double[] seconds = new double[RUNS];
            for (int i = 0; i < RUNS; i++) seconds[i] = peak.seconds();
            return of(seconds);
        }
    }

    @Override
    public void close() {
        for (Tensor t : new Tensor[] {a, b, y}) backend.memory().free(t.address);
    }
}
