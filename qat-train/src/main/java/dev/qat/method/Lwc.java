package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Channels;
import dev.qat.ops.Grid;
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
 * Learnable weight clipping (OmniQuant, arXiv 2308.13137 §3.2): both ends of every group's range shrink or grow, trained against the
 * full-precision block's output; weights do not train.
 *
 * <pre>h = e^u · max(w, 0), l = e^v · min(w, 0), s = (h − l)/Q, ŵ = clamp(rint((w − l)/s), 0, Q) · s + l; u and v begin at log σ(4)</pre>
 *
 * Official: σ(u) in place of e^u, which cannot grow beyond 1, and the lower end rounded to a whole zero point; here it is kept as a
 * minimum, so that of the deployment formats gguf:q4_1 holds the codes. OmniQuant's equivalent transformations are {@link Teq}'s.
 *
 * @param bits   0 takes the target's, without one 4  @param group −1 for the whole row; 0 takes the target's, without one 64
 * @param epochs over the windows, the official 20  @param rate the official 0.01; AdamW without decay, constant
 */
public record Lwc(int bits, int group, int epochs, int batch, double rate, Part windows, boolean shuffle) implements Stage {
    public static final Lwc DEFAULTS = new Lwc(0, 0, 20, 1, 1e-2, Part.ALL, false);
    private static final double START = Math.log(1 / (1 + Math.exp(-4)));

    public Lwc {
        Bits.check(bits);
        Positive.check("epochs", epochs);
        Positive.check("batch", batch);
        if (rate <= 0) throw Fail.usage("rate = %s, expected more than 0", rate);
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        Blockwise.codes(run, "lwc", new Blockwise.Config(epochs, 0, batch, rate, new Schedule(Schedule.Shape.CONSTANT, 0, 0), AdamW.Config.DEFAULTS, windows, shuffle), new Training(run));
    }

    /** Both ends of a linear's groups and what they are multiplied by.   high, low, u, v (1, groups) */
    record Clip(Linear linear, Grid grid, Rule rule, Tensor high, Tensor low, Param u, Param v) {
        static Clip of(Slab slab, Linear l, Grid grid, Rule rule) {
            long n = l.outputs() * l.inputs() / grid.group();
            return new Clip(l, grid, rule, slab.param(l.name + ".high", Param.Kind.SCALE, 1, n).value(), slab.param(l.name + ".low", Param.Kind.SCALE, 1, n).value(),
                    slab.param(l.name + ".u", Param.Kind.TRANSFORM, n), slab.param(l.name + ".v", Param.Kind.TRANSFORM, n));
        }

        /** Begins at σ(4) of the range of w. */
        void start(Backend backend, Tensor w, boolean planned) {
            backend.groupRange(high, low, w, grid);
            backend.fill(u.value(), (float) START);
            backend.fill(v.value(), (float) START);
            if (planned) return;
            float[] step = backend.memory().floats(high), min = backend.memory().floats(low);
            for (int i = 0; i < step.length; i++) step[i] = min[i] + grid.maxCode() * step[i];
            backend.memory().set(high, step);
        }

        private Tensor low(Tape t) {
            return Ops.channelScale(t, low, v.value(), Channels.each(low.size(), 1));
        }

        private Tensor step(Tape t, Tensor l) {
            Tensor h = Ops.channelScale(t, high, u.value(), Channels.each(high.size(), 1));
            return Ops.scale(t, Ops.add(t, h, Ops.scale(t, l, -1)), 1f / grid.maxCode());
        }

        Tensor round(Tape t, Tensor w) {
            Tensor l = low(t);
            return Ops.fakeQuant(t, w, rule.step(t, step(t, l)), rule.zero(t, l, grid), grid);
        }
    }

    private final class Training implements Blockwise.Method {
        private final Run run;
        private List<Clip> clips;

        Training(Run run) {
            this.run = run;
        }

        private Grid grid(Linear l) {
            Grid g = run.rule().grid(l, bits, group);
            if (!run.rule().target().isEmpty() && !g.minimum()) {
                throw Fail.usage("lwc trains a minimum for every group, and target %s holds none. Take gguf:q4_1, or let block-ap train ranges.", run.rule().target());
            }
            return new Grid(g.bits(), g.group(), Grid.Offset.MINIMUM);
        }

        @Override
        public List<AdamW.Group> prepare(Block block) {
            clips = Slab.of(run.backend().memory(), "clips of block " + block.index, slab -> {
                List<Clip> all = new ArrayList<>();
                for (Linear l : block.linears()) all.add(Clip.of(slab, l, grid(l), run.rule()));
                return all;
            });
            for (Clip c : clips) {
                c.start(run.backend(), c.linear.weight.value(), run.planned());
                c.linear.weightSite.add(c::round);
            }
            return List.of(new AdamW.Group(clips.stream().flatMap(c -> List.of(c.u, c.v).stream()).toList(), rate, 0));
        }

        @Override
        public void finish(Block block) {
            Memory memory = run.backend().memory();
            List<GroupAffine> quantizers = GroupAffine.install(run.backend(), "steps of block " + block.index, block.linears(), this::grid, run.rule());
            for (int i = 0; i < clips.size() && !run.planned(); i++) ends(memory, clips.get(i), quantizers.get(i));
            run.use(block.linears(), GroupAffine.freeze(run.backend(), quantizers));
            GroupAffine.free(memory, quantizers);
            memory.free(clips.getFirst().high.address);
            run.student().release(block);
        }

        /** The trained steps and minima, in the order of operations of {@link Clip#round}. */
        private void ends(Memory memory, Clip c, GroupAffine quantizer) {
            float[] h = memory.floats(c.high), l = memory.floats(c.low), u = memory.floats(c.u.value()), v = memory.floats(c.v.value());
            for (int i = 0; i < h.length; i++) {
                l[i] *= (float) Math.exp(v[i]);
                h[i] = (h[i] * (float) Math.exp(u[i]) - l[i]) * (1f / c.grid.maxCode());
            }
            quantizer.start(memory, h, l);
        }
    }
}
