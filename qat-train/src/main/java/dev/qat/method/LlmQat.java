package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.model.TokenRounding;
import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.train.AdamW;
import dev.qat.train.Confidence;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.List;

/**
 * LLM-QAT (arXiv 2305.17888): all weights of the model are trained under quantized weights, activations and KV cache, towards
 * the full-precision model's next-token distributions. Defaults are the official ones.
 *
 * @param bits       W-A-KV, such as 4-8-4; 32 for full precision; weights of 2 bits and 1 have levels about their mean size,
 *                   as in the official code  @param group inputs of a weight row that share a scale; −1 for the row
 * @param heads      gives every head of a token's keys and of its values a scale of its own; official: one for all heads
 * @param asymmetric gives every token (inputs, keys, values) an offset as well
 * @param window     lets gradients pass only where |x| < 2, as the official code does
 * @param trained    all parameters, embedding and head among them (official), or the linears' weights alone
 * @param scaleRate  more than 0 trains a step and a zero point per row (or group) of the weights at this rate, from the codes of the stage
 *                   before or the row's range, in place of the row's largest |weight|
 * @param maxNorm    of the gradient of the loss's mean over tokens; the official loss is its sum over the T of a window, for which 1/T is the same
 * @param loss       kl; cakld (BitDistiller, weighs the reverse divergence by β); js (Jensen-Shannon, FPTQuant)
 * @param beta       of cakld; 0 measures the teacher's mean largest probability, as BitDistiller does
 * @param hard       weight of the cross-entropy on the text that is added
 * @param guard      windows held back from training to judge by: where they show no gain, the model stays as it was; 0 for none
 * @param windows    the windows to train on: all, the user's text, or the model's own samples
 */
public record LlmQat(String bits, int group, boolean heads, boolean asymmetric, boolean window, Trained trained, int epochs, int batch, double rate, double scaleRate, double decay,
                     double beta2, double maxNorm, Schedule schedule, Distance loss, double beta, double hard, double temperature,
                     Part windows, boolean shuffle, boolean recompute, int guard) implements Stage {
    public enum Distance { KL, CAKLD, JS }

    public static final LlmQat DEFAULTS = new LlmQat("4-8-4", -1, false, false, false, Trained.ALL, 1, 8, 2e-5, 0, 0, 0.999, 1, Schedule.DEFAULTS, Distance.KL, 0, 0, 1, Part.ALL, true, false, 0);

    public LlmQat {
        Widths.of(bits);
        Positive.check("epochs", epochs);
        Positive.check("batch", batch);
        if (beta < 0 || beta > 1) throw Fail.usage("beta = %s, expected a share in [0, 1]", beta);
        if (scaleRate < 0) throw Fail.usage("scale-rate = %s, expected 0 (the row's largest |weight|) or more (trained)", scaleRate);
        if (hard < 0) throw Fail.usage("hard = %s, expected 0 or more", hard);
        if (guard < 0) throw Fail.usage("guard = %d, expected 0 or more windows", guard);
        if (temperature <= 0) throw Fail.usage("temperature = %s, expected more than 0", temperature);
    }

    @Override
    public void run(Run run) {
        Widths widths = Widths.of(bits);
        TokenRounding tokens = widths.tokens(heads, asymmetric, window);
        if (scaleRate == 0 || !widths.quantizesWeights()) {
            MinMax quantizers = MinMax.install(run, widths, group, tokens);
            train(run, List.of());
            quantizers.freeze(run.student().linears());
            return;
        }
        List<Linear> linears = run.student().linears();
        List<GroupAffine> learned = learned(run, widths.weights(), linears);
        MinMax.tokens(run, tokens);
        train(run, learned.stream().flatMap(q -> q.params().stream()).toList());
        run.use(linears, GroupAffine.freeze(run.backend(), learned));
        GroupAffine.free(run.backend().memory(), learned);
    }

    /** Steps and zero points of the codes in use where there are some of this width, else of each row's range. */
    private List<GroupAffine> learned(Run run, int width, List<Linear> linears) {
        if (!run.packed().isEmpty() && run.packed().values().iterator().next().bits() == width) return GroupAffine.thaw(run, "llm-qat", linears);
        run.reset();
        return GroupAffine.install(run.backend(), "steps", linears, width, group <= 0 ? -1 : group, run.rule());
    }

    private void train(Run run, List<Param> scales) {
        List<Param> matrices = new ArrayList<>(), vectors = new ArrayList<>();
        for (Param p : trained.of(run.student())) (p.value().dims().length > 1 ? matrices : vectors).add(p);
        List<AdamW.Group> groups = new ArrayList<>(List.of(new AdamW.Group(matrices, rate, decay)));
        if (!vectors.isEmpty()) groups.add(new AdamW.Group(vectors, rate, 0));
        if (!scales.isEmpty()) groups.add(new AdamW.Group(scales, scaleRate, 0));
        EndToEnd.train(run, "llm-qat", groups, new EndToEnd.Config(epochs, batch, schedule, rate, new AdamW.Config(0.9, beta2, 1e-8, maxNorm),
                EndToEnd.Loss.DISTILL, divergence(run), windows, shuffle, recompute).guarded(guard));
    }

    private Divergence divergence(Run run) {
        double reverse = loss != Distance.CAKLD ? 0 : beta > 0 ? beta : Confidence.of(run, windows, batch);
        return new Divergence(loss == Distance.JS, (float) reverse, (float) hard, (float) temperature);
    }
}
