package dev.qat.cuda;

import java.lang.foreign.MemorySegment;
import java.util.Random;

/** Float arrays on their way to a device and back, for the tests of this package. */
final class Floats {
    private Floats() {}

    static float[] normal(int n, long seed) {
        Random random = new Random(seed);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) x[i] = (float) random.nextGaussian();
        return x;
    }

    static long put(Device dev, String name, float... x) {
        long p = dev.alloc(name, 4L * x.length);
        dev.upload(p, MemorySegment.ofArray(x));
        return p;
    }

    static float[] get(Device dev, long p, int n) {
        float[] x = new float[n];
        dev.download(MemorySegment.ofArray(x), p);
        return x;
    }

    /** The values rounded to bfloat16, nearest even, as bits. */
    static short[] bits(float[] x) {
        short[] b = new short[x.length];
        for (int i = 0; i < x.length; i++) {
            int u = Float.floatToRawIntBits(x[i]);
            b[i] = (short) (u + 0x7fff + (u >>> 16 & 1) >>> 16);
        }
        return b;
    }

    static float[] values(short[] bits) {
        float[] x = new float[bits.length];
        for (int i = 0; i < x.length; i++) x[i] = Float.intBitsToFloat(bits[i] << 16);
        return x;
    }

    static long put(Device dev, String name, short[] x) {
        long p = dev.alloc(name, 2L * x.length);
        dev.upload(p, MemorySegment.ofArray(x));
        return p;
    }

    /** The largest difference, relative to the largest expected value. */
    static double error(float[] got, double[] expected) {
        double worst = 0, scale = 1e-30;
        for (int i = 0; i < got.length; i++) {
            if (Float.isNaN(got[i])) return Double.POSITIVE_INFINITY;
            worst = Math.max(worst, Math.abs(got[i] - expected[i]));
            scale = Math.max(scale, Math.abs(expected[i]));
        }
        return worst / scale;
    }
}
