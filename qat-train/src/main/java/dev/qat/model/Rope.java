package dev.qat.model;

import dev.qat.model.ModelConfig.RopeScaling;

/** Cosines and sines of the rotary position embedding (Su et al., 2021), with the scalings models ship with. */
final class Rope {
    private Rope() {}

    /** (2, context, D/2): cosines, then sines, of position · frequency. */
    static float[] table(RopeScaling s, int context, int D) {
        int half = D / 2;
        float[] table = new float[2 * context * half];
        for (int i = 0; i < half; i++) {
            double f = frequency(s, i, D);
            for (int p = 0; p < context; p++) {
                table[p * half + i] = (float) Math.cos(p * f);
                table[(context + p) * half + i] = (float) Math.sin(p * f);
            }
        }
        return table;
    }

    /** θ^(−2i/D); linear divides it by the factor, llama3 does so for wavelengths beyond the original context, smoothly. */
    static double frequency(RopeScaling s, int i, int D) {
        double f = Math.pow(s.theta(), -2.0 * i / D);
        if (s.kind().equals("default")) return f;
        if (s.kind().equals("linear")) return f / s.factor();
        double wave = 2 * Math.PI / f;
        if (wave < s.original() / s.high()) return f;
        if (wave > s.original() / s.low()) return f / s.factor();
        double smooth = (s.original() / wave - s.low()) / (s.high() - s.low());
        return (1 - smooth) * f / s.factor() + smooth * f;
    }
}
