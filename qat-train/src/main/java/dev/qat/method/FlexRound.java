package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Channels;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Blockwise;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Schedule;
import dev.qat.train.Stage;
import java.util.ArrayList;
import java.util.List;

/**
 * FlexRound (arXiv 2306.00317): learned rounding by division. Every weight has a divisor of its own, every row one, and every group a
 * step; they train against the full-precision block's output, the weights do not.
 *
 * <pre>ŵ = (clamp(rint(w e^(−δ₂ − δ₃) / s) + z, 0, Q) − z) · s</pre>
 *
 * A code may move by more than one, most easily where the weight is large: dL/dδ₂ is −dL/dŵ · w e^(−δ₂ − δ₃). The zero point is the
 * range's and stays. Official: the step by its logarithm; here itself, at the rate times its mean.
 *
 * @param bits  0 takes the target's, without one 4  @param group −1 for the whole row (official); 0 takes the target's, without one 64
 * @param steps per block, the official 5000  @param rate the official one of 4 bits; Adam, cosine to 0
 */
public record FlexRound(int bits, int group, int steps, int batch, double rate, Part windows, boolean shuffle) implements Stage {
    public static final FlexRound DEFAULTS = new FlexRound(0, 0, 5000, 2, 3e-3, Part.ALL, true);

    public FlexRound {
        Bits.check(bits);
        Positive.check("steps", steps);
        Positive.check("batch", batch);
        if (rate <= 0) throw Fail.usage("rate = %s, expected more than 0", rate);
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        Blockwise.codes(run, "flexround", new Blockwise.Config(0, steps, batch, rate, new Schedule(Schedule.Shape.COSINE, 0, 0), AdamW.Config.DEFAULTS, windows, shuffle), new Training(run));
    }

    /** The divisors of one linear, as logarithms.   each (O · I)  row (O) */
    record Divisors(Linear linear, Param each, Param row) {
        static List<Divisors> of(Backend backend, Block block) {
            List<Divisors> all = Slab.of(backend.memory(), "divisors of block " + block.index, slab -> {
                List<Divisors> d = new ArrayList<>();
                for (Linear l : block.linears()) {
                    d.add(new Divisors(l, slab.param(l.name + ".divisor", Param.Kind.TRANSFORM, l.outputs() * l.inputs()), slab.param(l.name + ".row divisor", Param.Kind.TRANSFORM, l.outputs())));
                }
                return d;
            });
            for (Divisors d : all) {
                backend.fill(d.each.value(), 0);
                backend.fill(d.row.value(), 0);
            }
            return all;
        }

        /** w e^(−δ₂ − δ₃); w takes no gradient.   w (O, I) → (O, I) */
        Tensor divide(Tape t, Tensor w) {
            Tensor flat = w.view(0, 1, w.size());
            Tensor divided = Ops.channelScale(t, Ops.channelScale(t, flat, each.value(), Channels.each(w.size(), -1)), row.value(), rows(w));
            return Ops.reshape(t, divided, w.dims());
        }

        private static Channels rows(Tensor w) {
            return new Channels(1, Math.toIntExact(w.cols()), -1);
        }

        /** The divided weight, in memory of its own. */
        Tensor divided(Backend backend) {
            Tensor w = linear.weight.value(), out = backend.memory().tensor("divided weight", w.dims()), flat = out.view(0, 1, w.size());
            backend.channelScale(flat, w.view(0, 1, w.size()), each.value(), Channels.each(w.size(), -1));
            backend.channelScale(flat, flat, row.value(), rows(w));
            return out;
        }
    }

    private final class Training implements Blockwise.Method {
        private final Run run;
        private List<Divisors> divisors;
        private List<GroupAffine> quantizers;

        Training(Run run) {
            this.run = run;
        }

        @Override
        public List<AdamW.Group> prepare(Block block) {
            divisors = Divisors.of(run.backend(), block);
            for (Divisors d : divisors) d.linear.weightSite.add(d::divide);
            quantizers = GroupAffine.install(run.backend(), "steps of block " + block.index, block.linears(), bits, group, run.rule());
            List<AdamW.Group> groups = new ArrayList<>(List.of(new AdamW.Group(divisors.stream().flatMap(d -> List.of(d.each, d.row).stream()).toList(), rate, 0)));
            for (GroupAffine q : quantizers) groups.add(new AdamW.Group(List.of(q.params().getFirst()), rate * mean(q.params().getFirst()), 0));
            return groups;
        }

        private double mean(Param step) {
            if (run.planned()) return 1;
            double mean = 0;
            for (float s : run.backend().memory().floats(step.value())) mean += s / (double) step.value().size();
            return mean;
        }

        @Override
        public void finish(Block block) {
            Memory memory = run.backend().memory();
            List<Tensor> values = divisors.stream().map(d -> d.divided(run.backend())).toList();
            run.use(block.linears(), GroupAffine.freeze(run.backend(), quantizers, values));
            values.forEach(v -> memory.free(v.address));
            GroupAffine.free(memory, quantizers);
            memory.free(divisors.getFirst().each.value().address);
            run.student().release(block);
        }
    }
}
