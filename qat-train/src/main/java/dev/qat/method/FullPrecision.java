package dev.qat.method;

import dev.qat.ops.Divergence;
import dev.qat.tensor.Param;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.List;

/**
 * Training without quantization: the end-to-end driver with nothing in the sockets. Matrices decay, gains and biases do not.
 */
public record FullPrecision(int epochs, int batch, double rate, double decay, double maxNorm, Schedule schedule, double beta2, boolean recompute) implements Stage {
    public static final FullPrecision DEFAULTS = new FullPrecision(1, 8, 1e-3, 0.1, 1, new Schedule(Schedule.Shape.COSINE, 0.02, 0.1), 0.95, false);

    public FullPrecision {
        Positive.check("epochs", epochs);
        Positive.check("batch", batch);
    }

    @Override
    public void run(Run run) {
        List<Param> matrices = new ArrayList<>(), vectors = new ArrayList<>();
        for (Param p : run.student().params()) (p.value().dims().length > 1 ? matrices : vectors).add(p);
        EndToEnd.train(run, "full-precision", List.of(new AdamW.Group(matrices, rate, decay), new AdamW.Group(vectors, rate, 0)),
                new EndToEnd.Config(epochs, batch, schedule, rate, new AdamW.Config(0.9, beta2, 1e-8, maxNorm), EndToEnd.Loss.CROSS_ENTROPY,
                        Divergence.KL, Part.ALL, true, recompute));
    }
}
