package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Ops;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.List;

/** How sure the teacher is of its next token: the mean of its largest probability, β of BitDistiller's CAKLD (arXiv 2402.10631 eq. 8). */
public final class Confidence {
    private static final int BATCHES = 10;

    private Confidence() {}

    /** Over the first ten batches of training windows; a half where nothing is to be computed. */
    public static double of(Run run, Part part, int batch) {
        if (run.planned()) return 0.5;
        Windows w = run.windows(part);
        Model teacher = run.teacher();
        Memory m = run.backend().memory();
        Tensor ids = m.tensor("ids", DType.I32, w.length()), logits = m.tensor("logits", w.length(), teacher.config.V());
        Positions at = teacher.positions(1, w.length());
        int windows = Math.min(BATCHES * batch, w.count());
        double sum = 0;
        try (Step step = new Step(run.backend(), "teacher's confidence", false, t ->
                t.backend().copy(logits, Ops.linear(t, teacher.hidden(t, ids, at, false), teacher.head.value(), null, null)))) {
            for (int i = 0; i < windows; i++) {
                m.set(ids, w.inputs(i));
                step.run();
                sum += largest(m.floats(logits), teacher.config.V());
            }
        }
        for (Tensor t : List.of(ids, logits, at.positions())) m.free(t.address);
        return sum / windows;
    }

    /** The mean over rows of the largest softmax probability. */
    private static double largest(float[] logits, int V) {
        double all = 0;
        int rows = logits.length / V;
        for (int r = 0; r < rows; r++) {
            double most = Double.NEGATIVE_INFINITY, sum = 0;
            for (int v = r * V; v < (r + 1) * V; v++) most = Math.max(most, logits[v]);
            for (int v = r * V; v < (r + 1) * V; v++) sum += Math.exp(logits[v] - most);
            all += 1 / sum;
        }
        return all / rows;
    }
}
