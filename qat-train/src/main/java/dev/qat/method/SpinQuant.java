package dev.qat.method;

import dev.qat.model.Model;
import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.Locale;

/**
 * SpinQuant (arXiv 2405.16406): QuaRot's rotations as a start, then R₁ of the residual stream and R₂ of every block's values trained
 * through rounded weights, inputs and cache by the model's cross-entropy, and merged. What follows quantizes the result.
 *
 * <p>Steps are {@link Cayley#step}, the official Cayley SGD with its retraction solved exactly, on the host in double precision:
 * O(C³) operations each. Official: asymmetric tokens, keys and values; here min-max about 0, LLM-QAT's. Official: embeddings centred,
 * which changes the model; not here.
 *
 * @param bits   W-A-KV while the rotations train  @param rate of Cayley SGD; the official 1.5  @param steps the official 100
 * @param online adds R₃ and R₄, as {@link Rotate} does  @param loss cross-entropy (official), or KL to the full-precision model
 */
public record SpinQuant(String bits, boolean online, int steps, int batch, double rate, EndToEnd.Loss loss, Part windows, boolean shuffle, boolean recompute) implements Stage {
    public static final SpinQuant DEFAULTS = new SpinQuant("4-4-4", true, 100, 8, 1.5, EndToEnd.Loss.CROSS_ENTROPY, Part.ALL, true, false);

    public SpinQuant {
        Widths.of(bits);
        Positive.check("steps", steps);
        Positive.check("batch", batch);
        if (rate <= 0) throw Fail.usage("rate = %s, expected more than 0", rate);
    }

    @Override
    public void run(Run run) {
        new Rotate(true, true, online).run(run);
        Model m = run.student();
        try (Turns turns = new Turns(run, rate, true)) {
            turns.install();
            Widths widths = Widths.of(bits);
            MinMax.add(run, widths, -1, widths.tokens(false, false, false));
            EndToEnd.train(run, "spinquant", turns.groups(), new EndToEnd.Config(0, batch, new Schedule(Schedule.Shape.COSINE, 0, 0), rate, AdamW.Config.DEFAULTS,
                    loss, Divergence.KL, windows, shuffle, recompute, steps), (_, _) -> {}, turns::step);
            run.reset();
            if (run.planned()) return;
            run.watch().say(String.format(Locale.ROOT, "spinquant: %d rotations, off by at most %.1e from orthogonal", turns.params().size(), turns.error()));
            run.note("orthogonality", turns.error());
            Merge to = new Merge(m.memory());
            turns.merge(to);
            to.store();
        }
    }
}
