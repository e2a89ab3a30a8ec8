package dev.qat.export;

import dev.qat.tensor.Fail;

/**
 * A lattice's steps as fp16, which is what the formats store.
 *
 * @param bits    (O · I/G)
 * @param values  (O · I/G) the same as fp32
 * @param maxMove the largest |fp16(step) − step| / |step|
 */
record HalfSteps(short[] bits, float[] values, double maxMove) {
    static HalfSteps of(Lattice l) {
        short[] bits = new short[l.step().length];
        float[] values = new float[bits.length];
        double most = 0;
        for (int i = 0; i < bits.length; i++) {
            float s = l.step()[i];
            bits[i] = Float.floatToFloat16(s);
            values[i] = Float.float16ToFloat(bits[i]);
            if (!Float.isFinite(values[i]) || values[i] == 0 && s != 0) {
                throw Fail.data("%s: the step %s of row %d becomes %s in fp16, which every packed format stores; write gguf:f32 or hf instead",
                        l.name(), s, i / l.groups(), values[i]);
            }
            if (s != 0) most = Math.max(most, Math.abs(values[i] - (double) s) / Math.abs((double) s));
        }
        return new HalfSteps(bits, values, most);
    }
}
