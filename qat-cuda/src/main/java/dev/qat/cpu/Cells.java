package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;
import java.lang.foreign.ValueLayout;

/** One element of a tensor in host memory: the only place of the reference that knows how floats are stored. */
final class Cells {
    private Cells() {}

    static float get(Tensor x, long i) {
        if (x.type == DType.F32) return HostMemory.get(x, i);
        if (x.type != DType.BF16) throw Fail.internal("%s holds no floats", x);
        return Float.intBitsToFloat(HostMemory.ALL.get(ValueLayout.JAVA_SHORT_UNALIGNED, x.address + 2 * i) << 16);
    }

    /** y[i] = v, rounded once to fp32 and from there to y's type. */
    static void put(Tensor y, long i, double v) {
        if (y.type == DType.F32) {
            HostMemory.put(y, i, (float) v);
        } else {
            if (y.type != DType.BF16) throw Fail.internal("%s holds no floats", y);
            HostMemory.ALL.set(ValueLayout.JAVA_SHORT_UNALIGNED, y.address + 2 * i, bf16((float) v));
        }
    }

    /** d[i] = v, or d[i] += v, or nothing. */
    static void give(Grad d, long i, double v) {
        if (d.wanted()) put(d.to(), i, d.add() ? get(d.to(), i) + v : v);
    }

    /** The upper half of an fp32 number, rounded to the nearest, ties to even; NaN stays NaN. */
    static short bf16(float v) {
        int bits = Float.floatToRawIntBits(v);
        if (Float.isNaN(v)) return (short) (bits >>> 16 | 0x40);
        return (short) (bits + 0x7FFF + (bits >>> 16 & 1) >>> 16);
    }

    /** min(max(v, lo), hi), where NaN stays NaN. */
    static float clamp(float v, float lo, float hi) {
        return Math.max(lo, Math.min(hi, v));
    }
}
