package dev.qat.model;

import dev.qat.ops.Philox;
import dev.qat.tensor.Param;

/** Weights of a model that has learned nothing: normal with standard deviation 0.02, the products that write the residual stream 0.02 / √(2 · layers). */
final class Fresh {
    private Fresh() {}

    static void fill(Model m, long seed) {
        int tensor = 0;
        for (Param p : m.params()) {
            tensor++;
            double std = p.name().endsWith("o_proj.weight") || p.name().endsWith("down_proj.weight") ? 0.02 / Math.sqrt(2 * m.config.layers()) : 0.02;
            float[] values = new float[Math.toIntExact(p.value().size())];
            for (int i = 0; i < values.length; i++) {
                values[i] = switch (p.kind()) {
                    case GAIN -> 1;
                    case BIAS -> 0;
                    default -> (float) (std * Philox.normal(seed, i, tensor, 0));
                };
            }
            m.memory().set(p.value(), values);
        }
    }
}
