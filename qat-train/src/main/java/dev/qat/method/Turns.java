package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Slab;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.AdamW;
import dev.qat.train.Run;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Rotations that train: R₁ of the residual stream and, on request, one R₂ per block for the values of all its heads (SpinQuant's;
 * FPTQuant's T_r is R₁). They start at the identity, on a model whose norm gains are folded, and go by {@link Cayley#step}, so they
 * stay orthogonal; every weight is seen turned, as it will be merged.
 *
 * <pre>
 * embeddings e R₁;  q, k, gate, up: W R₁;  v: R₂ᵀ W R₁ per head;  o: R₁ᵀ W R₂ per head;  down: R₁ᵀ W;  hidden states h R₁ᵀ
 * </pre>
 * What lies in memory is S = Rᵀ, since products read their second factor transposed.
 *
 * <p>A step of R₁ is O(C³) on the host in double, some eight products and an inverse made of products, which fp32 or BF16 would not
 * keep orthogonal: 0.06 s of one core for C = 512, 34 s for C = 4096, shared out over all.
 */
final class Turns implements AutoCloseable {
    /** How far rows of a trained rotation may be from orthonormal; what is merged is brought nearer still. */
    private static final double ORTHOGONAL = 1e-6;

    private final Model m;
    private final Memory memory;
    private final boolean planned;
    private final Param residual;   // (C, C)
    private final List<Param> values;   // per block (D, D); empty where they do not train
    private final List<Tensor> held = new ArrayList<>();
    private final double rate;

    /** @param rate of {@link Cayley#step} at its peak  @param heads trains R₂ as well */
    Turns(Run run, double rate, boolean heads) {
        this.m = run.student();
        this.memory = m.memory();
        this.planned = run.planned();
        this.rate = rate;
        ModelConfig c = m.config;
        Fail.unless(m.head != m.embedding, "the residual stream cannot be turned where the head is the embedding");
        List<Param> all = Slab.of(memory, "rotations", slab -> {
            List<Param> p = new ArrayList<>(List.of(slab.param("rotation of the residual stream", Kind.TRANSFORM, c.C(), c.C())));
            for (Block b : m.blocks()) if (heads) p.add(slab.param("rotation of the values of block " + b.index, Kind.TRANSFORM, c.D(), c.D()));
            return p;
        });
        residual = all.getFirst();
        values = all.subList(1, all.size());
        if (!planned) for (Param p : all) set(p, identity(Math.toIntExact(p.value().rows())));
    }

    private static double[] identity(int n) {
        double[] one = new double[n * n];
        for (int i = 0; i < n; i++) one[i * n + i] = 1;
        return one;
    }

    private void set(Param p, double[] v) {
        float[] f = new float[v.length];
        for (int i = 0; i < f.length; i++) f[i] = (float) v[i];
        memory.set(p.value(), f);
    }

    private double[] get(Tensor t) {
        float[] f = memory.floats(t);
        double[] d = new double[f.length];
        for (int i = 0; i < d.length; i++) d[i] = f[i];
        return d;
    }

    /** The parameters, residual first. */
    List<Param> params() {
        List<Param> all = new ArrayList<>(List.of(residual));
        all.addAll(values);
        return all;
    }

    /** They take no step of AdamW, which only lays out their gradients: {@link #step} does. */
    List<AdamW.Group> groups() {
        return List.of(new AdamW.Group(params(), 0, 0));
    }

    private Tensor held(String name, double[] v, long... dims) {
        Tensor t = memory.tensor(name, dims);
        held.add(t);
        if (planned) return t;
        float[] f = new float[v.length];
        for (int i = 0; i < f.length; i++) f[i] = (float) v[i];
        memory.set(t, f);
        return t;
    }

    /** Puts the rotations into the model's sites, before everything that follows there. */
    void install() {
        ModelConfig c = m.config;
        Tensor s = residual.value(), one = held("identity", planned ? null : identity(c.C()), c.C(), c.C());
        m.embedSite.add((t, x) -> Ops.linear(t, x, s, null, null));
        m.hiddenSite.add((t, x) -> Ops.linear(t, x, transposed(t, one, s), null, null));
        Tensor heads = values.isEmpty() ? null : held("identity", planned ? null : identity(c.K() * c.D()), (long) c.K() * c.D(), (long) c.K() * c.D());
        for (Block b : m.blocks()) {
            for (Linear l : List.of(b.q, b.k, b.gate, b.up)) l.weightSite.add((t, w) -> Ops.linear(t, w, s, null, null));
            Tensor o = transpose(b.o), down = transpose(b.down);
            for (Linear l : List.of(b.o, b.down)) if (l.bias != null) l.biasSite.add((t, v) -> row(t, v, s));
            b.down.weightSite.add((t, _) -> Ops.linear(t, s, down, null, null));
            if (values.isEmpty()) {
                b.v.weightSite.add((t, w) -> Ops.linear(t, w, s, null, null));
                b.o.weightSite.add((t, _) -> Ops.linear(t, s, o, null, null));
                continue;
            }
            Tensor r = values.get(b.index).value();
            b.v.weightSite.add((t, w) -> transposed(t, heads, perHead(t, Ops.linear(t, s, w, null, null), r)));   // (R₁ᵀ Wᵀ R₂)ᵀ
            b.o.weightSite.add((t, _) -> perHead(t, Ops.linear(t, s, o, null, null), r));
            if (b.v.bias != null) b.v.biasSite.add((t, v) -> Ops.reshape(t, perHead(t, Ops.reshape(t, v, 1, v.size()), r), v.size()));
        }
    }

    /** Wᵀ, kept beside the weight: the base model does not train. */
    private Tensor transpose(Linear l) {
        int O = Math.toIntExact(l.outputs()), I = Math.toIntExact(l.inputs());
        double[] w = planned ? null : get(l.weight.value()), t = planned ? null : new double[w.length];
        for (int i = 0; !planned && i < w.length; i++) t[i % I * O + i / I] = w[i];
        return held(l.name + " transposed", t, I, O);
    }

    /** xᵀ, as a product with the identity. */
    private static Tensor transposed(Tape t, Tensor one, Tensor x) {
        return Ops.linear(t, one, x, null, null);
    }

    /** Every D neighbours of a row times R.   x (N, H·D)  r: Rᵀ (D, D) */
    private static Tensor perHead(Tape t, Tensor x, Tensor r) {
        return Ops.reshape(t, Ops.linear(t, Ops.reshape(t, x, x.size() / r.rows(), r.rows()), r, null, null), x.dims());
    }

    private static Tensor row(Tape t, Tensor v, Tensor s) {
        return Ops.reshape(t, Ops.linear(t, Ops.reshape(t, v, 1, v.size()), s, null, null), v.size());
    }

    /** Goes down the gradients of the step just made. */
    void step(double factor) {
        for (Param p : params()) set(p, Cayley.step(get(p.value()), get(p.value().grad), rate * factor, Math.toIntExact(p.value().rows())));
    }

    /** The largest |R Rᵀ − I| of all, as they lie in memory. */
    double error() {
        return params().stream().mapToDouble(p -> Cayley.error(get(p.value()), Math.toIntExact(p.value().rows()))).max().orElseThrow();
    }

    /** Writes the rotations into the weights; refuses what is no rotation any more. */
    void merge(Merge to) {
        if (!(error() < ORTHOGONAL)) throw Fail.numeric("a rotation is off by %.1e from orthogonal after training. Nothing was written. Lower its rate.", error());
        Folds.residual(to, m, rotation(residual));
        for (Block b : m.blocks()) {
            if (values.isEmpty()) continue;
            double[][] same = new double[m.config.K()][];
            Arrays.fill(same, rotation(values.get(b.index)));
            Folds.values(to, b, m.config, same);
        }
    }

    private double[] rotation(Param p) {
        int n = Math.toIntExact(p.value().rows());
        return Folds.transpose(Cayley.nearest(get(p.value()), n), n);
    }

    @Override
    public void close() {
        held.forEach(t -> memory.free(t.address));
        memory.free(residual.value().address);
    }
}
