package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.put;

import dev.qat.tensor.Tensor;

/** AdamW as {@link dev.qat.ops.Backend#adamw} says it. */
final class ReferenceAdamW {
    private ReferenceAdamW() {}

    static void step(Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares) {
        if (squares != null && !Double.isFinite(get(squares, 0))) return;
        double lr = get(hyper, 0), beta1 = get(hyper, 1), beta2 = get(hyper, 2), eps = get(hyper, 3), decay = get(hyper, 4);
        double c1 = get(hyper, 5), c2 = get(hyper, 6), maxNorm = get(hyper, 7);
        double clip = squares == null || maxNorm == 0 ? 1 : Math.min(1, maxNorm / (Math.sqrt(get(squares, 0)) + 1e-6));
        for (long i = 0; i < p.size(); i++) {
            double slope = get(g, i) * clip;
            double mean = beta1 * get(m, i) + (1 - beta1) * slope;
            double square = beta2 * get(v, i) + (1 - beta2) * slope * slope;
            put(m, i, mean);
            put(v, i, square);
            put(p, i, get(p, i) - lr * (mean * c1 / (Math.sqrt(square * c2) + eps) + decay * get(p, i)));
        }
    }
}
