package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
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
        List<GroupAffine> quantizers = thaw(run, linears);
        EndToEnd.train(run, "e2e-qat", GroupAffine.training(run.student().blocks(), quantizers, weightRate, scaleRate), new EndToEnd.Config(epochs, batch,
                new Schedule(Schedule.Shape.COSINE, warmup, floor), scaleRate, new AdamW.Config(0.9, 0.999, 1e-8, maxNorm), loss,
                new Divergence(false, 0, (float) hard, 1), windows, shuffle, recompute));
        run.use(linears, GroupAffine.freeze(run.backend(), quantizers));
        GroupAffine.free(run.backend().memory(), quantizers);
    }

    /** Masters on the points their codes stand for, under quantizers with the codes' steps and zero points. */
    private static List<GroupAffine> thaw(Run run, List<Linear> linears) {
        List<PackedWeight> codes = linears.stream().map(run.packed()::get).toList();
        PackedWeight first = codes.getFirst();
        boolean rows = codes.stream().allMatch(p -> p.group() == p.cols());
        for (PackedWeight p : codes) {
            if (p.bits() != first.bits() || !rows && p.group() != first.group()) {
                throw Fail.usage("e2e-qat: %s has %d bits in groups of %d, %s %d in groups of %d; one width for all is expected", first.name(), first.bits(),
                        first.group(), p.name(), p.bits(), p.group());
            }
        }
        List<float[]> steps = new ArrayList<>(), zeros = new ArrayList<>();
        for (int i = 0; i < codes.size(); i++) {
            PackedWeight p = codes.get(i);
            run.backend().dequantize(linears.get(i).weight.value(), p, p.step());
            steps.add(run.planned() ? null : run.backend().memory().floats(p.step()));
            zeros.add(run.planned() ? null : run.backend().memory().floats(p.zero()));
        }
        run.reset();
        int group = rows ? -1 : first.group();
        List<GroupAffine> installed = GroupAffine.install(run.backend(), "steps", linears, first.bits(), group, run.rule());
        for (int i = 0; i < installed.size() && !run.planned(); i++) installed.get(i).start(run.backend().memory(), steps.get(i), zeros.get(i));
        return installed;
    }
}
