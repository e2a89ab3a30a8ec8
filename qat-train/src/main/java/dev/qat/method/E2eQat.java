package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.List;

/**
 * End-to-end training of everything Block-AP trains, from where the stage before left it: weights and norm gains at one rate,
 * steps and zero points at another, so that codes may still move. The usual QAT that EfficientQAT (arXiv 2407.11062 §3.3) does
 * without to save memory: it holds every weight as an fp32 master with its moments. Where they fit, it reaches further.
 *
 * @param weightRate of weights and norm gains  @param scaleRate of steps and zero points
 * @param loss       cross-entropy on the text, or distill: KL to the full-precision model
 * @param hard       weight of the cross-entropy that is added to a distillation
 * @param windows    the windows to train on: all, the user's text, or the model's own samples
 */
public record E2eQat(int epochs, int batch, double weightRate, double scaleRate, double maxNorm, double warmup, double floor, EndToEnd.Loss loss, double hard,
                     Part windows, boolean shuffle, boolean recompute) implements Stage {
    public static final E2eQat DEFAULTS = new E2eQat(1, 8, 1e-4, 3e-4, 1, 0, 0.05, EndToEnd.Loss.DISTILL, 0, Part.ALL, true, false);

    public E2eQat {
        Positive.check("epochs", epochs);
        Positive.check("batch", batch);
        if (hard < 0) throw Fail.usage("hard = %s, expected 0 or more", hard);
    }

    @Override
    public void run(Run run) {
        if (run.packed().isEmpty()) throw Fail.usage("e2e-qat goes on from codes: put rtn or block-ap before it in stages");
        List<Linear> linears = run.student().linears();
        List<GroupAffine> quantizers = GroupAffine.thaw(run, "e2e-qat", linears);
        EndToEnd.train(run, "e2e-qat", GroupAffine.training(run.student().blocks(), quantizers, weightRate, scaleRate), new EndToEnd.Config(epochs, batch,
                new Schedule(Schedule.Shape.COSINE, warmup, floor), scaleRate, new AdamW.Config(0.9, 0.999, 1e-8, maxNorm), loss,
                new Divergence(false, 0, (float) hard, 1), windows, shuffle, recompute));
        run.use(linears, GroupAffine.freeze(run.backend(), quantizers));
        GroupAffine.free(run.backend().memory(), quantizers);
    }
}
