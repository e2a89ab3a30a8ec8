package dev.qat.ops;

import java.util.SplittableRandom;
import java.util.function.IntToDoubleFunction;

/** Numbers that tests feed to ops: always the same for the same name, on a grid of 2⁻¹³ so that small steps away are exact. */
final class Values {
    private Values() {}

    static int count(long... dims) {
        long n = 1;
        for (long d : dims) n *= d;
        return Math.toIntExact(n);
    }

    static float[] of(int n, IntToDoubleFunction at) {
        float[] v = new float[n];
        for (int i = 0; i < n; i++) v[i] = (float) at.applyAsDouble(i);
        return v;
    }

    static float[] normal(String name, int n) {
        var random = new SplittableRandom(name.hashCode() * 31L + n);
        return of(n, i -> grid(Math.sqrt(-2 * Math.log(1 - random.nextDouble())) * Math.cos(2 * Math.PI * random.nextDouble())));
    }

    static float[] between(String name, int n, double low, double high) {
        var random = new SplittableRandom(name.hashCode() * 37L + n);
        return of(n, i -> grid(low + (high - low) * random.nextDouble()));
    }

    /** The nearest multiple of 2⁻¹³. */
    static double grid(double v) {
        return Math.rint(v * 0x1p13) * 0x1p-13;
    }
}
