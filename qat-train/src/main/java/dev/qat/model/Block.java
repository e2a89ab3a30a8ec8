package dev.qat.model;

import dev.qat.model.Cache.Store;
import dev.qat.ops.Heads;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** One decoder layer: norm → q, k, v → rope → attention → o → add → norm → gate, up → swiglu → down → add. */
public final class Block {
    public final int index;
    public final Linear q, k, v, o, gate, up, down;
    public final Param norm1, norm2;
    /** Gains of the per-head norms of q and k (Qwen3), or null. */
    public final Param qNorm, kNorm;
    /** The gains of norm1 and norm2; and of the norms of queries and keys, where there are any. */
    public final Site gain1Site = new Site(), gain2Site = new Site(), queryGainSite = new Site(), keyGainSite = new Site();
    /** Keys and values right after their products, before rope: where a KV cache is quantized. */
    public final Site keySite = new Site(), valueSite = new Site();
    /** Queries and keys after rope, as attention reads them. */
    public final Site turnedQuerySite = new Site(), turnedKeySite = new Site();
    /** What up makes, before it meets the gate. */
    public final Site upSite = new Site();
    private final ModelConfig c;
    private boolean dynamic;

    /** A block whose parameters have shapes and no memory yet. */
    Block(ModelConfig c, int index) {
        this.c = c;
        this.index = index;
        String at = "model.layers." + index + ".", attn = at + "self_attn.", mlp = at + "mlp.";
        int qo = c.H() * c.D(), kv = c.K() * c.D();
        q = linear(attn + "q_proj", qo, c.C(), c.qkvBias());
        k = linear(attn + "k_proj", kv, c.C(), c.qkvBias());
        v = linear(attn + "v_proj", kv, c.C(), c.qkvBias());
        o = linear(attn + "o_proj", c.C(), qo, c.outBias());
        gate = linear(mlp + "gate_proj", c.F(), c.C(), c.mlpBias());
        up = linear(mlp + "up_proj", c.F(), c.C(), c.mlpBias());
        down = linear(mlp + "down_proj", c.C(), c.F(), c.mlpBias());
        norm1 = gain(at + "input_layernorm.weight", c.C());
        norm2 = gain(at + "post_attention_layernorm.weight", c.C());
        qNorm = c.qkNorm() ? gain(attn + "q_norm.weight", c.D()) : null;
        kNorm = c.qkNorm() ? gain(attn + "k_norm.weight", c.D()) : null;
        turn(c.online());
    }

    private static Linear linear(String name, long O, long I, boolean bias) {
        return new Linear(name, absent(name + ".weight", Kind.WEIGHT, O, I), bias ? absent(name + ".bias", Kind.BIAS, O) : null);
    }

    private static Param gain(String name, long C) {
        return absent(name, Kind.GAIN, C);
    }

    static Param absent(String name, Kind kind, long... dims) {
        return new Param(name, kind, new Tensor(name, DType.F32, 0, dims));
    }

    /** x (N, C) → (N, C) for B sequences of T tokens. */
    public Tensor forward(Tape t, Tensor x, Positions at) {
        Tensor n = Ops.rmsnorm(t, x, gain1Site.through(t, norm1.value()), c.eps(), read(t, q, k, v));
        Tensor qr = turnedQuerySite.through(t, turned(t, headNorm(t, q.forward(t, n, null), qNorm, queryGainSite), at));
        Tensor kr = turnedKeySite.through(t, turned(t, headNorm(t, keySite.through(t, k.forward(t, n, null)), kNorm, keyGainSite), at));
        Tensor vr = valueSite.through(t, v.forward(t, n, null));
        Tensor a = onto(t, x, o, o::forward, Ops.attention(t, qr, kr, vr, new Heads(at.B(), at.T(), c.H(), c.K(), c.D()), joined(t, o)));
        return mlp(t, a);
    }

    /** Rotated, and gone as it was before: rotating back needs the gradient alone. */
    private static Tensor turned(Tape t, Tensor x, Positions at) {
        Tensor y = Ops.rope(t, x, at.table(), at.positions());
        t.spend(x);
        return y;
    }

    /** One new token for each of B sequences, keys and values kept in a cache.   x (B, C) */
    public Tensor decode(Tape t, Tensor x, Cache cache) {
        Tensor n = Ops.rmsnorm(t, x, gain1Site.through(t, norm1.value()), c.eps());
        Tensor qr = turnedQuerySite.through(t, Ops.rope(t, headNorm(t, q.decode(t, n, null), qNorm, queryGainSite), cache.table(), cache.positions()));
        Tensor keys = keys(t, k.decode(t, n, null), cache), values = values(t, v.decode(t, n, null), cache), out = t.alloc("attention", qr.dims());
        int capacity = (int) cache.keys().get(index).capacity();
        t.backend().attentionCache(out, qr, keys, values, cache.lengths(), new Heads((int) x.rows(), capacity, c.H(), c.K(), c.D()));
        Tensor a = onto(t, x, o, o::decode, out), m = Ops.rmsnorm(t, a, gain2Site.through(t, norm2.value()), c.eps(), read(t, gate, up));
        return onto(t, a, down, down::decode, Ops.swiglu(t, gate.decode(t, m, null), upSite.through(t, up.decode(t, m, null)), joined(t, down)));
    }

    /** Keeps new keys and gives all as attention reads them.   x (B, K·D) → (B, capacity, K·D) */
    private Tensor keys(Tape t, Tensor x, Cache cache) {
        if (cache.keys().get(index) instanceof Store.Integers store) {
            Tensor all = integers(t, keySite.beforeLast(t, x), store, cache);
            return turnedKeySite.through(t, Ops.rope(t, headNorm(t, all, kNorm, keyGainSite), cache.table(), cache.places()));
        }
        return plain(t, turnedKeySite.through(t, Ops.rope(t, headNorm(t, keySite.through(t, x), kNorm, keyGainSite), cache.table(), cache.positions())), cache.keys(), cache);
    }

    private Tensor values(Tape t, Tensor x, Cache cache) {
        if (cache.values().get(index) instanceof Store.Integers store) return integers(t, valueSite.beforeLast(t, x), store, cache);
        return plain(t, valueSite.through(t, x), cache.values(), cache);
    }

    private Tensor plain(Tape t, Tensor x, List<Store> stores, Cache cache) {
        Tensor rows = ((Store.Plain) stores.get(index)).rows();
        t.backend().cacheWrite(rows, x, cache.positions());
        return rows;
    }

    /** Rounds a new row and gives the whole cache as floats, which live as long as this block's turn. */
    private static Tensor integers(Tape t, Tensor x, Store.Integers store, Cache cache) {
        t.backend().cachePack(store.codes(), store.scales(), x, cache.positions(), store.grid());
        Tensor all = t.alloc("cache", store.codes().dim(0), store.codes().dim(1), x.cols());
        t.backend().cacheUnpack(all, store.codes(), store.scales(), cache.lengths(), store.grid());
        return all;
    }

    private Tensor mlp(Tape t, Tensor a) {
        Tensor m = Ops.rmsnorm(t, a, gain2Site.through(t, norm2.value()), c.eps(), read(t, gate, up));
        return onto(t, a, down, down::forward, Ops.swiglu(t, gate.forward(t, m, null), upSite.through(t, up.forward(t, m, null)), joined(t, down)));
    }

    /** A product that is added to {@code plus}. */
    private interface Product {
        Tensor apply(Tape t, Tensor in, Tensor plus);
    }

    /** x + W u; with S_n x + rms(x) · W (u / rms(x)), see {@link ModelConfig.Online}.   x (N, C)  u (N, I) */
    private Tensor onto(Tape t, Tensor x, Linear l, Product product, Tensor u) {
        if (!scaled(l)) return product.apply(t, u, x);
        return Ops.rmsScale(t, product.apply(t, Ops.rmsScale(t, u, x, null, c.eps(), -1), null), x, x, c.eps(), 1);
    }

    /** A bias would have to be scaled with every token, and cannot be told from a product that is. */
    private boolean scaled(Linear l) {
        return dynamic && l.bias == null && l.biasSite.isEmpty();
    }

    /** The type in which o and down read what is made for them. */
    private DType joined(Tape t, Linear l) {
        return scaled(l) ? DType.F32 : read(t, l);
    }

    /** The type in which linears read their input: as their product does, unless a function stands before one. */
    private static DType read(Tape t, Linear... readers) {
        for (Linear l : readers) if (!l.inputSite.isEmpty()) return DType.F32;
        return t.backend().operand();
    }

    private Tensor headNorm(Tape t, Tensor x, Param gain, Site site) {
        return gain == null ? x : Ops.rmsnorm(t, x, site.through(t, gain.value()), c.eps());
    }

    public List<Linear> linears() {
        return List.of(q, k, v, o, gate, up, down);
    }

    /** The same, together where they read one value. */
    List<List<Linear>> readers() {
        return List.of(List.of(q, k, v), List.of(o), List.of(gate, up), List.of(down));
    }

    public List<Param> gains() {
        return java.util.stream.Stream.of(norm1, norm2, qNorm, kNorm).filter(Objects::nonNull).toList();
    }

    public List<Param> params() {
        List<Param> all = new ArrayList<>();
        for (Linear l : linears()) all.add(l.weight);
        all.addAll(gains());
        for (Linear l : linears()) if (l.bias != null) all.add(l.bias);
        return all;
    }

    /** The same in the order in which they lie in memory: every weight with its bias, then the gains. */
    List<Param> layout() {
        List<Param> all = new ArrayList<>();
        for (Linear l : linears()) {
            all.add(l.weight);
            if (l.bias != null) all.add(l.bias);
        }
        all.addAll(gains());
        return all;
    }

    /** Bytes of all of it as masters. */
    public long masterBytes() {
        return Ahead.bytes(layout());
    }

    /** Whether all weights are in memory. */
    public boolean resident() {
        return linears().stream().allMatch(l -> l.weight.resident());
    }

    /** Where keys are quantized: after rope where they are turned there, else before it. */
    public Site storedKeySite() {
        return turnedKeySite.standing() ? turnedKeySite : keySite;
    }

    /** Puts what stays in the forward pass where it belongs, in place of what was there. */
    void turn(ModelConfig.Online online) {
        dynamic = online.dynamic();
        for (Site s : List.of(turnedQuerySite, turnedKeySite, o.inputSite, down.inputSite)) s.empty();
        if (online.down() > 0) down.inputSite.stand((t, x) -> Ops.hadamard(t, x, online.down()));
        if (online.across() > 0) o.inputSite.stand((t, x) -> Ops.hadamard(t, x, online.across(), c.D()));
        if (online.heads() == 0) return;
        turnedQuerySite.stand((t, x) -> Ops.hadamard(t, x, online.heads()));
        turnedKeySite.stand((t, x) -> Ops.hadamard(t, x, online.heads()));
    }

    /** Takes what methods put there out of every site. */
    public void clearSites() {
        for (Linear l : linears()) {
            l.weightSite.clear();
            l.inputSite.clear();
            l.biasSite.clear();
        }
        for (Site s : List.of(gain1Site, gain2Site, queryGainSite, keyGainSite, keySite, valueSite, turnedQuerySite, turnedKeySite, upSite)) s.clear();
    }
}
