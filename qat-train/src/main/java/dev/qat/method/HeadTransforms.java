package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.model.ModelConfig;
import dev.qat.model.Slab;
import dev.qat.ops.Channels;
import dev.qat.ops.Mix;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import dev.qat.train.Run;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * FPTQuant's T_k and T_v (arXiv 2506.04985 §3) while they train: a matrix A per key/value head where keys and values are made, and
 * A⁻¹ where they are read. Every weight is seen as it will be merged.
 *
 * <pre>
 * T_k   k ← A k, q ← A⁻ᵀ q before rope;  A = [[a, −b], [b, a]] on each pair (j, j + D/2) that rope turns, so that it commutes with it
 * T_v   v ← A v per key/value head, o ← o A⁻¹ for every query head of its group;  A any matrix that has an inverse
 * </pre>
 * Only A trains. Its inverse is one step of Newton's from B₀, the inverse of A as it is before each step, found on the host in double:
 * B = 2 B₀ − B₀ A B₀ is A⁻¹, and so is its derivative, −A⁻¹ dA A⁻¹.
 *
 * <p>Where queries and keys have norms of their own, what is left of T_k are scales e^τ per pair, the same for all heads, in the gains
 * of those norms ({@link Folds#keyGains}).
 */
final class HeadTransforms implements AutoCloseable {
    /** The matrices of a block's heads: T_v's as they are, T_k's by a and b of every pair (K, D).   inverse: B₀ (K·D, D) */
    private record Matrices(Param param, Tensor inverse) {}

    private final Model m;
    private final ModelConfig c;
    private final Memory memory;
    /** Per block; empty where they do not train. */
    private final List<Matrices> keys = new ArrayList<>(), values = new ArrayList<>();
    private final List<Param> gains = new ArrayList<>();   // τ (D/2)
    /** (D², D): times its transpose, a and b of a head are its A, row by row. */
    private Tensor pairs;
    private final long address;

    /** All of them the identity.  @param trainKeys whether there is a T_k  @param trainValues whether there is a T_v */
    HeadTransforms(Run run, boolean trainKeys, boolean trainValues) {
        m = run.student();
        c = m.config;
        memory = m.memory();
        address = Slab.of(memory, "transforms of heads", slab -> place(slab, trainKeys, trainValues)).address();
        if (!run.planned()) identity();
    }

    /** What trains lies side by side, what it needs behind it. */
    private Slab place(Slab slab, boolean trainKeys, boolean trainValues) {
        Stream.of(keys, values, gains).forEach(List::clear);
        long D = c.D(), rows = c.K() * D;
        List<Param> turns = new ArrayList<>(), matrices = new ArrayList<>();
        for (Block b : m.blocks()) {
            String at = " of block " + b.index;
            if (trainKeys && c.qkNorm()) gains.add(slab.param("T_k" + at, Kind.TRANSFORM, D / 2));
            else if (trainKeys) turns.add(slab.param("T_k" + at, Kind.TRANSFORM, c.K(), D));
            if (trainValues) matrices.add(slab.param("T_v" + at, Kind.TRANSFORM, rows, D));
        }
        for (Param p : turns) keys.add(new Matrices(p, slab.tensor("inverse of " + p.name(), DType.F32, rows, D)));
        for (Param p : matrices) values.add(new Matrices(p, slab.tensor("inverse of " + p.name(), DType.F32, rows, D)));
        if (!turns.isEmpty()) pairs = slab.tensor("pairs", DType.F32, D * D, D);
        return slab;
    }

    private void identity() {
        int D = c.D(), half = D / 2;
        float[] turn = new float[c.K() * D], one = new float[c.K() * D * D], basis = new float[D * D * D];
        for (int i = 0; i < turn.length; i++) {
            turn[i] = i % D < half ? 1 : 0;
            one[i * D + i % D] = 1;
        }
        for (int j = 0; j < half; j++) {
            int u = j, v = j + half;
            basis[(u * D + u) * D + u] = basis[(v * D + v) * D + u] = basis[(v * D + u) * D + v] = 1;
            basis[(u * D + v) * D + v] = -1;
        }
        if (!keys.isEmpty()) memory.set(pairs, basis);
        for (Matrices k : keys) memory.set(k.param.value(), turn);
        for (Matrices v : values) memory.set(v.param.value(), one);
        for (Param p : gains) memory.set(p.value(), new float[half]);
        invert();
    }

    /** Every parameter, in the order of memory. */
    List<Param> params() {
        return m.blocks().stream().flatMap(b -> Stream.of(gains.isEmpty() ? null : gains.get(b.index), keys.isEmpty() ? null : keys.get(b.index).param,
                values.isEmpty() ? null : values.get(b.index).param)).filter(java.util.Objects::nonNull).toList();
    }

    /** Finds B₀ of the matrices as they are, which must be done before every step. One that has no inverse any more is refused. */
    void invert() {
        for (Matrices k : Stream.concat(keys.stream(), values.stream()).toList()) {
            int size = c.D() * c.D();
            float[] inverse = new float[c.K() * size];
            double[][] now = heads(k);
            IntStream.range(0, now.length).parallel().forEach(h -> {
                double[] d = Folds.inverse(now[h], c.D());
                for (int i = 0; i < size; i++) inverse[h * size + i] = (float) d[i];
            });
            memory.set(k.inverse, inverse);
        }
    }

    /** A of every head.   (K) of (D, D) */
    private double[][] heads(Matrices k) {
        int D = c.D(), half = D / 2;
        float[] p = memory.floats(k.param.value());
        double[][] all = new double[c.K()][D * D];
        for (int h = 0; h < c.K(); h++) {
            if (!keys.contains(k)) for (int i = 0; i < D * D; i++) all[h][i] = p[h * D * D + i];
            else for (int j = 0; j < half; j++) {
                all[h][j * D + j] = all[h][(j + half) * D + j + half] = p[h * D + j];
                all[h][(j + half) * D + j] = p[h * D + half + j];
                all[h][j * D + j + half] = -p[h * D + half + j];
            }
        }
        return all;
    }

    /** Puts the transforms into the model's sites, after what is there: rotations of the residual act on the other side of a weight. */
    void install() {
        int group = c.H() / c.K();
        Mix own = new Mix(1, 1, false), read = new Mix(group, 1, true);
        for (Block b : m.blocks()) {
            if (!keys.isEmpty()) {
                Matrices k = keys.get(b.index);
                rows(b.k, t -> turns(t, k), own);
                rows(b.q, t -> inverse(t, turns(t, k), k.inverse), read);
            }
            if (!gains.isEmpty()) {
                Tensor tau = gains.get(b.index).value();
                b.keyGainSite.add((t, g) -> Ops.channelScale(t, g, tau, new Channels(c.D() / 2, 2, 1)));
                b.queryGainSite.add((t, g) -> Ops.channelScale(t, g, tau, new Channels(c.D() / 2, 2, -1)));
            }
            if (values.isEmpty()) continue;
            Matrices v = values.get(b.index);
            rows(b.v, _ -> v.param.value(), own);
            b.o.weightSite.add((t, w) -> Ops.mixHeads(t, w, inverse(t, v.param.value(), v.inverse), read));
        }
    }

    /** The rows of a weight and its bias, head by head. */
    private static void rows(Linear l, Function<Tape, Tensor> matrices, Mix how) {
        Mix weight = new Mix(how.repeat(), Math.toIntExact(l.inputs()), how.transposed());
        l.weightSite.add((t, w) -> Ops.mixHeads(t, w, matrices.apply(t), weight));
        if (l.bias != null) l.biasSite.add((t, v) -> Ops.mixHeads(t, v, matrices.apply(t), how));
    }

    private Tensor turns(Tape t, Matrices k) {
        return Ops.reshape(t, Ops.linear(t, k.param.value(), pairs, null, null), k.inverse.dims());
    }

    /** 2 B₀ − B₀ A B₀.   a, b (K·D, D) */
    private Tensor inverse(Tape t, Tensor a, Tensor b) {
        Mix each = new Mix(1, c.D(), false);
        return Ops.add(t, Ops.scale(t, b, 2), Ops.scale(t, Ops.mixHeads(t, b, Ops.mixHeads(t, a, b, each), each), -1));
    }

    /** Writes the transforms into weights, biases and gains. */
    void merge(Merge to) {
        int D = c.D(), half = D / 2;
        for (Block b : m.blocks()) {
            if (!keys.isEmpty()) {
                double[] phi = new double[c.K() * half], s = new double[phi.length];
                float[] p = memory.floats(keys.get(b.index).param.value());
                for (int n = 0; n < phi.length; n++) {
                    double x = p[n / half * D + n % half], y = p[n / half * D + half + n % half];
                    phi[n] = Math.atan2(y, x);
                    s[n] = Math.hypot(x, y);
                }
                Folds.keys(to, b, c, phi, s);
            }
            if (!gains.isEmpty()) {
                float[] tau = memory.floats(gains.get(b.index).value());
                Folds.keyGains(to, b, IntStream.range(0, half).mapToDouble(i -> Math.exp(tau[i])).toArray());
            }
            if (!values.isEmpty()) Folds.values(to, b, c, Stream.of(heads(values.get(b.index))).map(a -> Folds.transpose(a, D)).toArray(double[][]::new));
        }
    }

    @Override
    public void close() {
        memory.free(address);
    }
}
