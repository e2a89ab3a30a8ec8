package dev.qat.cpu;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.tail;

import dev.qat.tensor.Tensor;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/** The optimizer's step in one pass over a slab: gradient clipped, moments moved, weights moved. */
final class AdamW {
    private AdamW() {}

    static void step(Threads team, Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares) {
        float lr = get(hyper.address), b1 = get(hyper.address + 4), b2 = get(hyper.address + 8), eps = get(hyper.address + 12);
        float decay = get(hyper.address + 16), c1 = get(hyper.address + 20), c2 = get(hyper.address + 24), most = get(hyper.address + 28);
        if (squares != null && !Float.isFinite(get(squares.address))) return;
        double norm = squares == null ? 0 : Math.sqrt(get(squares.address));
        float clip = most > 0 && norm > most ? (float) (most / (norm + 1e-6)) : 1;
        team.each(p.size(), L, (t, from, to) -> {
            for (long i = from; i < to; i += L) {
                VectorMask<Float> k = tail(to - i);
                long at = 4 * i;
                FloatVector grad = load(g.address + at, k).mul(clip);
                FloatVector mean = load(m.address + at, k).mul(b1).add(grad.mul(1 - b1));
                FloatVector square = load(v.address + at, k).mul(b2).add(grad.mul(grad).mul(1 - b2));
                FloatVector value = load(p.address + at, k);
                FloatVector move = mean.mul(c1).div(square.mul(c2).sqrt().add(eps)).add(value.mul(decay));
                store(m.address + at, mean, k);
                store(v.address + at, square, k);
                store(p.address + at, value.sub(move.mul(lr)), k);
            }
        });
    }
}
