package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.tensor.DType;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Run;
import dev.qat.train.Step;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Gradients of what trains in a model's sites against differences of the model's loss. */
final class Slopes {
    private static final int[] IDS = {1, 7, 30, 2, 39, 7, 0, 11, 18, 5}, NEXT = {7, 30, 2, 39, 7, 0, 11, 18, 5, 3};

    private Slopes() {}

    /** Holds some entries of every parameter to differences; all gradients.  @param moved what must be done after a parameter was changed */
    @SuppressWarnings("try")
    static Map<Param, float[]> check(Run run, List<Param> params, float d, Runnable moved) {
        Backend be = run.backend();
        Model m = run.student();
        Tensor ids = be.memory().tensor("ids", DType.I32, IDS.length), next = be.memory().tensor("targets", DType.I32, IDS.length), loss = be.memory().tensor("loss", 1);
        be.memory().set(ids, IDS);
        be.memory().set(next, NEXT);
        Positions at = m.positions(1, IDS.length);
        Map<Param, float[]> gradients = new LinkedHashMap<>();
        try (AdamW adam = new AdamW(be, List.of(new AdamW.Group(params, 0, 0)), AdamW.Config.DEFAULTS);
             Step step = new Step(be, "step", true, t -> {
                 Tensor rows = Ops.crossEntropy(t, m.hidden(t, ids, at, true), m.head.value(), next, 512, 1);
                 t.backward();
                 t.backend().sum(loss, rows, 1);
             })) {
            step.run();
            for (Param p : params) gradients.put(p, be.memory().floats(p.value().grad));
            for (Param p : params) {
                float[] v = be.memory().floats(p.value());
                for (int i = 0; i < v.length; i += Math.max(1, v.length / 7)) {
                    double[] ends = new double[2];
                    for (int side = 0; side < 2; side++) {
                        float[] to = v.clone();
                        to[i] += side == 0 ? -d : d;
                        be.memory().set(p.value(), to);
                        moved.run();
                        step.run();
                        ends[side] = be.memory().floats(loss)[0];
                    }
                    be.memory().set(p.value(), v);
                    moved.run();
                    double slope = (ends[1] - ends[0]) / (2 * d);
                    assertEquals(slope, gradients.get(p)[i], 2e-2 * Math.max(1, Math.abs(slope)), p.name() + " " + i);
                }
            }
        }
        return gradients;
    }
}
