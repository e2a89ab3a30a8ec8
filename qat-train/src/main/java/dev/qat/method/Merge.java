package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Channels;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Parameters in double precision while transforms are merged into them; written back once, so that they are rounded once.
 * Matrices are row-major (O, I) as y = x · Wᵀ reads them.
 */
public final class Merge {
    private final Memory memory;
    private final Map<Param, double[]> values = new LinkedHashMap<>();

    public Merge(Memory memory) {
        this.memory = memory;
    }

    /** The values of a parameter, to be changed in place. */
    public double[] of(Param p) {
        return values.computeIfAbsent(p, k -> {
            float[] f = memory.floats(k.value());
            double[] d = new double[f.length];
            for (int i = 0; i < d.length; i++) d[i] = f[i];
            return d;
        });
    }

    /** v_i *= s_i */
    public void vector(Param p, double[] s) {
        double[] v = of(p);
        for (int i = 0; i < v.length; i++) v[i] *= s[i];
    }

    /** Column j of the weight times the scale of its channel. */
    public void columns(Linear l, double[] s, Channels how) {
        double[] w = of(l.weight);
        int I = Math.toIntExact(l.inputs());
        for (int i = 0; i < w.length; i++) w[i] *= s[how.of(i % I)];
    }

    /** Row o of the weight, and of the bias, times s_o. */
    public void rows(Linear l, double[] s) {
        double[] w = of(l.weight);
        int I = Math.toIntExact(l.inputs());
        for (int i = 0; i < w.length; i++) w[i] *= s[i / I];
        if (l.bias != null) vector(l.bias, s);
    }

    /** Rounds everything to fp32 and puts it back. */
    public void store() {
        values.forEach((p, d) -> {
            float[] f = new float[d.length];
            for (int i = 0; i < f.length; i++) f[i] = (float) d[i];
            memory.set(p.value(), f);
        });
        values.clear();
    }
}
