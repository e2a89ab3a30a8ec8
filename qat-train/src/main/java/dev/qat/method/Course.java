package dev.qat.method;

import dev.qat.ops.Divergence;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Param;
import dev.qat.train.AdamW;
import dev.qat.train.EndToEnd;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import java.util.ArrayList;
import java.util.List;

/**
 * How a method trains the whole model through its fake-quantized weights: the same for all of them, so that they can be compared.
 *
 * @param epochs    over the windows; 0 only quantizes
 * @param rate      peak learning rate of the weights  @param scaleRate of what the quantizer brings; 0 for the same
 * @param schedule  cosine, linear, constant, wsd or whole-cosine, with its warm-up and floor
 * @param loss      cross-entropy on the text, or distill: KL to the full-precision model  @param hard cross-entropy added to a distillation
 * @param windows   all, the user's text, or the model's own samples
 * @param trained   all parameters, or the linears' weights alone
 */
public record Course(int epochs, int batch, double rate, double scaleRate, Schedule schedule, double maxNorm, EndToEnd.Loss loss, double hard, Part windows, Trained trained,
                     boolean shuffle, boolean recompute) {
    public static final Course DEFAULTS = new Course(1, 8, 1e-4, 0, new Schedule(Schedule.Shape.COSINE, 0.1, 0), 1, EndToEnd.Loss.CROSS_ENTROPY, 0, Part.ALL, Trained.ALL, true, false);

    public Course {
        if (epochs < 0) throw Fail.usage("epochs = %d, expected at least 0", epochs);
        if (rate <= 0) throw Fail.usage("rate = %s, expected more than 0", rate);
        Positive.check("batch", batch);
    }

    /** @param quantizer the parameters that the quantizer brings, in the order of memory */
    void train(Run run, String stage, List<Param> quantizer, EndToEnd.Before before) {
        if (epochs == 0) return;
        List<AdamW.Group> groups = new ArrayList<>(List.of(new AdamW.Group(trained.of(run.student()), rate, 0)));
        if (!quantizer.isEmpty()) groups.add(new AdamW.Group(quantizer, scaleRate > 0 ? scaleRate : rate, 0));
        EndToEnd.train(run, stage, groups, new EndToEnd.Config(epochs, batch, schedule, rate, new AdamW.Config(0.9, 0.999, 1e-8, maxNorm), loss,
                new Divergence(false, 0, (float) hard, 1), windows, shuffle, recompute), before);
    }

    /** What tells two stages of one method from each other. */
    String variant() {
        return epochs == 0 ? "untrained" : loss == EndToEnd.Loss.DISTILL ? hard > 0 ? "distilled + hard" : "distilled" : "";
    }
}
