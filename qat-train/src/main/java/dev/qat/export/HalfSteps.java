package dev.qat.export;

import dev.qat.ops.Snap;
import dev.qat.ops.Snap.Half;
import dev.qat.tensor.Fail;

/**
 * A lattice's steps as fp16, which is what most formats store, or as bf16.
 *
 * @param bits    (O · I/G)
 * @param values  (O · I/G) the same as fp32
 * @param maxMove the largest |half(step) − step| / |step|
 */
record HalfSteps(short[] bits, float[] values, double maxMove) {
    static HalfSteps of(Lattice l, Half half) {
        short[] bits = new short[l.step().length];
        float[] values = new float[bits.length];
        double most = 0;
        for (int i = 0; i < bits.length; i++) {
            float s = l.step()[i];
            values[i] = Snap.round(s, half);
            bits[i] = half == Half.BF16 ? (short) (Float.floatToRawIntBits(values[i]) >>> 16) : Float.floatToFloat16(s);
            if (!Float.isFinite(values[i]) || values[i] == 0 && s != 0) {
                throw Fail.data("%s: the step %s of row %d becomes %s in %s, which this format stores; write gguf:f32 or hf instead",
                        l.name(), s, i / l.groups(), values[i], half == Half.BF16 ? "bf16" : "fp16");
            }
            if (s != 0) most = Math.max(most, Math.abs(values[i] - (double) s) / Math.abs((double) s));
        }
        return new HalfSteps(bits, values, most);
    }
}
