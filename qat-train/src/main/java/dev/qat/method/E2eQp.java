package dev.qat.method;

import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.List;

/**
 * End-to-end training of quantization parameters, the second phase of EfficientQAT (arXiv 2407.11062 §3.3): codes and zero
 * points are frozen, only the steps train.
 *
 * @param rate    0 takes the official 2e-5 after 2-bit codes, else 1e-5
 * @param loss    cross-entropy on the text as in the paper, or distill: KL to the full-precision model, which keeps the
 *                model's behaviour instead of adapting it to the text
 * @param hard    weight of the cross-entropy that is added to a distillation
 * @param recompute drops each block's activations and computes them again for the gradient: less memory, a third more work
 * @param offload keeps the optimizer's moments on the host: less device memory, more time per update
 * @param windows the windows to train on: all, the user's text, or the model's own samples
 * @param accumulate a batch is computed in so many parts, one after the other, whose gradients are added: the memory of one part
 * @param stow    with recompute, what every block starts again from waits on the host: less device memory, more traffic
 */
public record E2eQp(int epochs, int batch, double rate, double maxNorm, double warmup, EndToEnd.Loss loss, double hard, Part windows, boolean shuffle,
                    boolean recompute, boolean offload, int accumulate, boolean stow) implements Stage {
    public static final E2eQp DEFAULTS = new E2eQp(1, 8, 0, 0.3, 0, EndToEnd.Loss.CROSS_ENTROPY, 0, Part.ALL, false, false, false);

    /** Every batch at once, all of it on the device. */
    public E2eQp(int epochs, int batch, double rate, double maxNorm, double warmup, EndToEnd.Loss loss, double hard, Part windows, boolean shuffle,
                 boolean recompute, boolean offload) {
        this(epochs, batch, rate, maxNorm, warmup, loss, hard, windows, shuffle, recompute, offload, 1, false);
    }

    public E2eQp {
        Positive.check("epochs", epochs);
        Positive.check("batch", batch);
        Positive.check("accumulate", accumulate);
        if (batch % accumulate != 0) throw Fail.usage("accumulate = %d, expected a divisor of batch = %d: the batch is computed in that many equal parts", accumulate, batch);
        if (stow && !recompute) throw Fail.usage("stow: true keeps on the host what recomputation starts from; it needs recompute: true");
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        if (run.packed().isEmpty()) throw Fail.usage("e2e-qp trains the steps of frozen codes: put rtn or block-ap before it in stages");
        List<Param> steps = run.packed().values().stream().map(p -> new Param(p.step().name, Param.Kind.SCALE, p.step())).toList();
        int bits = run.packed().values().stream().mapToInt(PackedWeight::bits).min().orElseThrow();
        double peak = rate > 0 ? rate : bits == 2 ? 2e-5 : 1e-5;
        EndToEnd.train(run, "e2e-qp", List.of(new AdamW.Group(steps, peak, 0)), new EndToEnd.Config(epochs, batch,
                new Schedule(Schedule.Shape.COSINE, warmup, 0), peak, new AdamW.Config(0.9, 0.999, 1e-8, maxNorm, offload), loss,
                new Divergence(false, 0, (float) hard, 1), windows, shuffle, recompute).thrifty(accumulate, stow));
    }
}
