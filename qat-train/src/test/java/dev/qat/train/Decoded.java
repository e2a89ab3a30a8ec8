package dev.qat.train;

import dev.qat.data.Safetensors;

/** An independent reading of packed.safetensors: bit by bit, by the layout its writer documents. */
final class Decoded {
    private Decoded() {}

    /** ŵ = (code − zero) · step, row-major. */
    static float[] weights(Safetensors file, String linear) {
        String[] meta = file.metadata().get(linear).split("[ =]");
        int bits = Integer.parseInt(meta[1]), group = Integer.parseInt(meta[3]), cols = Integer.parseInt(meta[5]);
        int[] words = file.bytes(linear + ".codes").toArray(java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED);
        float[] step = file.floats(linear + ".step"), zero = file.floats(linear + ".zero");
        int rows = (int) file.entry(linear + ".codes").shape()[0], perRow = words.length / rows;
        float[] w = new float[rows * cols];
        for (int r = 0; r < rows; r++) {
            for (int i = 0; i < cols; i++) {
                int code = 0;
                for (int b = 0; b < bits; b++) {
                    int bit = i * bits + b;
                    code |= (words[r * perRow + bit / 32] >>> bit % 32 & 1) << b;
                }
                int g = (r * cols + i) / group;
                w[r * cols + i] = (code - zero[g]) * step[g];
            }
        }
        return w;
    }
}
