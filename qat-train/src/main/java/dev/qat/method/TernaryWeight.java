package dev.qat.method;

import dev.qat.model.Linear;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Trits;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The weights of one linear as trits times the scales of their groups, and, with Tequila, the dead ones as a bias. */
final class TernaryWeight implements Quantizer {
    private static final float LEAST = 1e-5f; // of a learned scale, as the op has it

    private final Linear linear;
    private final Ternary how;
    private final Trits trits;
    private final Param scale, edge, shift;   // (O·I/G); edge null where the scale is learned, shift null but for DLT
    private final Param epsilon;              // (O) or (O, I), null without Tequila
    private final Tensor residual;            // (1) or null

    private TernaryWeight(Linear linear, Ternary how, Param scale, Param edge, Param shift, Param epsilon, Tensor residual) {
        this.linear = linear;
        this.how = how;
        this.trits = how.trits(linear);
        this.scale = scale;
        this.edge = edge;
        this.shift = shift;
        this.epsilon = epsilon;
        this.residual = residual;
    }

    /** Puts one on every linear; what they bring of a kind lies side by side. @param residual the weight of the weights themselves, or null */
    static List<TernaryWeight> install(Backend backend, List<Linear> linears, Ternary how, Tensor residual) {
        List<TernaryWeight> all = Slab.of(backend.memory(), "ternary scales", slab -> {
            List<List<Param>> parts = new ArrayList<>();
            for (String part : List.of("scale", "edge", "shift", "epsilon")) {
                List<Param> of = new ArrayList<>();
                for (Linear l : linears) of.add(how.has(part) ? slab.param(l.name + "." + part, Kind.SCALE, how.size(part, l)) : null);
                parts.add(of);
            }
            List<TernaryWeight> made = new ArrayList<>();
            for (int i = 0; i < linears.size(); i++) {
                made.add(new TernaryWeight(linears.get(i), how, parts.get(0).get(i), parts.get(1).get(i), parts.get(2).get(i), parts.get(3).get(i), residual));
            }
            return made;
        });
        for (TernaryWeight w : all) {
            w.start(backend);
            w.install();
        }
        return all;
    }

    static void free(Memory memory, List<TernaryWeight> installed) {
        memory.free(installed.getFirst().scale.value().address);
    }

    private void start(Backend b) {
        if (edge == null) b.memory().set(scale.value(), how.start(b.memory().floats(linear.weight.value()), linear));
        if (shift != null) b.fill(shift.value(), 0);
        if (epsilon != null) b.fill(epsilon.value(), (float) how.epsilon());
    }

    private void install() {
        if (epsilon != null) {
            linear.biasSite.add((t, bias) -> {
                range(t.backend());
                return Ops.reactivate(t, bias, linear.weight.value(), scale.value(), value(edge), epsilon.value(), trits, how.sign());
            });
        }
        linear.weightSite.add((t, w) -> {
            if (epsilon == null) range(t.backend()); // else the bias, which comes first, has done it
            return Ops.ternary(t, w, scale.value(), value(edge), value(shift), residual, trits);
        });
        if (how.activations() > 0) linear.inputSite.add((t, x) -> Ops.rowQuant(t, x, new RowGrid(how.activations(), true, false)));
    }

    private static Tensor value(Param p) {
        return p == null ? null : p.value();
    }

    /** Scales and edges of the weights as they are now, unless they are learned. */
    private void range(Backend b) {
        if (edge != null) b.ternaryRange(scale.value(), edge.value(), linear.weight.value(), how.threshold(), trits.group());
    }

    /** What trains beside the weights: learned scales and shifts, epsilons that are not fixed. */
    @Override
    public List<Param> params() {
        List<Param> all = new ArrayList<>();
        if (edge == null) all.add(scale);
        if (shift != null) all.add(shift);
        if (epsilon != null && how.learnsEpsilon()) all.add(epsilon);
        return all;
    }

    Linear linear() {
        return linear;
    }

    /** How many weights stand at zero.   scratch (at least 3·O) */
    double dead(Backend b, Tensor scratch) {
        long O = linear.outputs();
        if (trits.quads()) return linear.weight.value().size() / 4.0;
        if (trits.shape() == Trits.Shape.FOURS) return 0;
        Tensor bias = scratch.view(0, O), dead = scratch.view(O, O), none = scratch.view(2 * O, O);
        range(b);
        b.fill(none, 0);
        b.reactivate(bias, dead, null, linear.weight.value(), scale.value(), value(edge), none, trits, false);
        double sum = 0;
        for (float n : b.memory().floats(dead)) sum += n;
        return sum;
    }

    /** The weights as they are used, in their own place: for what no code stands for. */
    void bake(Backend b) {
        range(b);
        Tensor y = b.memory().tensor("baked", linear.weight.value().dims());
        b.ternary(y, linear.weight.value(), scale.value(), value(edge), value(shift), null, trits);
        b.copy(linear.weight.value(), y);
        b.memory().free(y.address);
    }

    /** Codes t + 1 about a zero point of 1, of four levels t above a minimum, and the bias that dead weights become: ŵ is what {@link Ops#ternary} gives, bit for bit. */
    PackedWeight freeze(Backend b) {
        Memory m = b.memory();
        long O = linear.outputs(), I = linear.inputs();
        int group = (int) Math.min(trits.group(), I), each = Math.toIntExact(O * I / group), per = trits.group() / group;
        range(b);
        boolean fours = trits.shape() == Trits.Shape.FOURS;
        float[] s = m.floats(scale.value()), steps = new float[each], minima = new float[each], edges = edge != null ? m.floats(edge.value()) : new float[s.length];
        for (int g = 0; g < s.length; g++) {
            if (edge == null) edges[g] = trits.edge() * (s[g] = Math.max(s[g], LEAST));
            Arrays.fill(steps, g * per, (g + 1) * per, s[g] * trits.level());
            Arrays.fill(minima, g * per, (g + 1) * per, s[g] * trits.offset());
        }
        Tensor ones = m.tensor("ones", O, I / group), zeros = m.tensor("zero points", O, I / group), cut = m.tensor("edges", s.length), t = m.tensor("trits", O, I);
        b.fill(ones, 1);
        b.fill(zeros, fours ? 0 : 1);
        m.set(cut, edges);
        b.ternary(t, linear.weight.value(), ones.view(0, s.length), cut, null, null, trits.codes());
        PackedWeight p = new PackedWeight(linear.name, 2, group, I, m.tensor(linear.name + ".codes", DType.I32, O, PackedWeight.wordsPerRow(I, 2)),
                m.tensor(linear.name + ".step", O, I / group), m.tensor(linear.name + ".zero", O, I / group), epsilon == null ? null : bias(m, edges), fours, trits.quads());
        b.pack(p, t, ones, zeros);
        m.set(p.step(), steps);
        if (fours) m.set(p.zero(), minima);
        for (Tensor used : List.of(ones, zeros, cut, t)) m.free(used.address);
        return p;
    }

    /** Σ of the dead, or of their signs, times their epsilon, per row, in double. */
    private Tensor bias(Memory m, float[] edges) {
        float[] w = m.floats(linear.weight.value()), e = m.floats(epsilon.value()), bias = new float[Math.toIntExact(linear.outputs())];
        int I = Math.toIntExact(linear.inputs());
        for (int o = 0; o < bias.length; o++) {
            double sum = 0;
            for (int i = o * I; i < (o + 1) * I; i++) {
                if (Math.abs(w[i]) < edges[i / trits.group()]) sum += (double) (!how.sign() ? w[i] : w[i] >= 0 ? 1 : -1) * e[e.length == w.length ? i : o];
            }
            bias[o] = (float) sum;
        }
        Tensor b = m.tensor(linear.name + ".bias", bias.length);
        m.set(b, bias);
        return b;
    }
}
