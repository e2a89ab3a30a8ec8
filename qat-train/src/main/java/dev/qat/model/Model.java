package dev.qat.model;

import dev.qat.data.HfModelDir;
import dev.qat.data.StoredType;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;

/**
 * A decoder-only language model: embedding, blocks, final norm, head. It never knows which method is at work in its sites.
 *
 * <p>A model that is {@link #open}ed brings blocks into memory when they are asked for and lets them go again: what only computes
 * lies in the type products read, what trains as an fp32 master. A model and its {@link #twin} share embedding, norm and head
 * until one of them trains.
 */
public final class Model {
    /** Where values come from, whenever they are asked for. */
    @FunctionalInterface
    public interface Source {
        /** Nothing behind the shapes, which is all a plan needs. */
        Source NOTHING = (_, _) -> {};

        /** Fills a parameter that has memory. */
        void read(Memory memory, Param p);

        /** Values that {@code floats} puts into fp32 memory of the host, written in the type that the parameter has.   (size) */
        static Source of(BiConsumer<Param, MemorySegment> floats) {
            return (memory, p) -> {
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment raw = arena.allocate(p.value().bytes(), 64);
                    if (p.value().type == DType.BF16) HfSource.narrow(raw, to -> floats.accept(p, to));
                    else floats.accept(p, raw);
                    memory.write(p.value(), raw);
                }
            };
        }
    }

    /** Only {@link #untie} changes it, and the head; and {@link #turn}. {@code read}: as it was read. */
    public ModelConfig config;
    private final ModelConfig read;
    public final Param embedding;   // (V, C)
    public final Param norm;        // (C)
    /** (V, C); the embedding itself where the two are tied. */
    public Param head;
    /** The embeddings of tokens; and the normed hidden states that the head reads. */
    public final Site embedSite = new Site(), hiddenSite = new Site();
    private final List<Block> blocks = new ArrayList<>();
    private final Memory memory;
    private final Source origin;
    /** The same, or null once the masters in memory are all there is. */
    private Source source;
    private final DType frozen;
    private final Tensor rope;
    /** Where each block's allocation begins. */
    private final Map<Block, Long> slabs = new HashMap<>();
    /** Where the allocation of embedding, head and norm begins, and whether they are also another model's. */
    private long ends;
    private boolean shared;
    /** What is being read for a block that comes next; null for nothing. */
    private Ahead ahead;

    /** All of a model in memory, fp32 and not filled. */
    public Model(ModelConfig config, Memory memory) {
        this(config, memory, null, DType.F32, null);
        ends(DType.F32);
        for (Block b : blocks) place(b, DType.F32);
    }

    private Model(ModelConfig config, Memory memory, Source source, DType frozen, Tensor sharedRope) {
        this.config = config;
        this.read = config;
        this.memory = memory;
        this.origin = source;
        this.source = source;
        this.frozen = frozen;
        embedding = Block.absent("model.embed_tokens.weight", Kind.EMBEDDING, config.V(), config.C());
        head = config.tied() ? embedding : Block.absent("lm_head.weight", Kind.HEAD, config.V(), config.C());
        norm = Block.absent("model.norm.weight", Kind.GAIN, config.C());
        for (int i = 0; i < config.layers(); i++) blocks.add(new Block(config, i));
        rope = sharedRope != null ? sharedRope : memory.tensor("rope", 2, config.context(), config.D() / 2);
        if (sharedRope == null) memory.set(rope, Rope.table(config.rope(), config.context(), config.D()));
    }

    /** A model whose blocks come from {@code source} when they are wanted; {@code frozen} is the type of what only computes. */
    public static Model open(ModelConfig config, Source source, Memory memory, DType frozen) {
        return new Model(config, memory, source, frozen, null).opened();
    }

    private Model opened() {
        ends(frozen);
        for (Param p : ends()) source.read(memory, p);
        return this;
    }

    /** The model of a Hugging Face directory, which must stay open for as long as the model lives; every shape is checked now. */
    public static Model open(HfModelDir dir, Memory memory, DType frozen) {
        HfSource source = new HfSource(dir);
        Model m = new Model(source.config(), memory, source, frozen, null);
        source.check(m);
        return m.opened();
    }

    /** Reads all of a Hugging Face directory, fp32, to compute what its config says: tokens and tensors are rounded where it has them rounded. */
    public static Model load(HfModelDir dir, Memory memory) {
        HfSource source = new HfSource(dir);
        Model m = new Model(source.config(), memory);
        source.check(m);
        for (Param p : m.params()) source.read(memory, p);
        String origin = dir.dir().resolve("config.json").toString();
        TokenRounding.install(m, dir.config(), origin);
        Ranges.install(m, dir.config(), origin);
        return m;
    }

    /** The same model once more, of which nothing is in memory but what the two share. */
    public Model twin() {
        Model m = new Model(config, memory, source, frozen, rope);
        m.embedding.place(embedding.value());
        m.head.place(head.value());
        m.norm.place(norm.value());
        shared = true;
        m.shared = true;
        return m;
    }

    // ---- what is in memory -------------------------------------------------------------------------------------------

    private List<Param> ends() {
        return head == embedding ? List.of(embedding, norm) : List.of(embedding, head, norm);
    }

    /** Reserves embedding, head and norm. */
    private void ends(DType type) {
        ends = Slab.of(memory, "embedding, head", s -> {
            for (Param p : ends()) p.place(s.place(p, p == norm ? DType.F32 : type));
            return s;
        }).address();
        shared = false;
    }

    private void place(Block b, DType type) {
        slabs.put(b, Slab.of(memory, "block %d weights".formatted(b.index), s -> {
            for (Param p : b.layout()) p.place(s.place(p, p.kind() == Kind.WEIGHT ? type : DType.F32));
            return s;
        }).address());
    }

    /**
     * Brings a block into memory as its source has it: weights in {@code type}, biases and gains in fp32. One whose weights are
     * there in that type stays as it is.
     */
    public void bring(Block b, DType type) {
        if (b.resident() && b.q.weight.value().type == type) return;
        Fail.unless(source != null, "block %d is gone, and there is nowhere to read it from", b.index);
        forget(b);
        place(b, type);
        if (ahead != null && ahead.block == b && type == DType.F32) ahead.give();
        else for (Param p : b.layout()) source.read(memory, p);
        ahead(null);
    }

    /**
     * Starts reading a block that will be brought next as masters, beside the computation; null ends it. Where the device's memory
     * is the host's, whose cores compute, there is nothing beside it.
     */
    public void ahead(Block next) {
        if (ahead != null) ahead.close();
        boolean wanted = next != null && source != null && memory.apart() && !(next.resident() && next.q.weight.value().type == DType.F32);
        ahead = wanted ? new Ahead(memory, next, config, source) : null;
    }

    /** Brings every block that is not there, to compute with. */
    public void bring() {
        for (Block b : blocks) if (!b.resident()) bring(b, frozen);
    }

    /** Everything in fp32 and this model's own, as training needs it; masters that are there keep their values. */
    public void masters() {
        if (source == null) return;
        for (Block b : blocks) master(b);
        if (!shared && embedding.value().type == DType.F32) return;
        if (!shared) memory.free(ends);
        ends(DType.F32);
        for (Param p : ends()) source.read(memory, p);
    }

    /** Brings a block's weights as masters; gains and biases that stayed when codes took the weights' place keep what they learned. */
    private void master(Block b) {
        List<Param> kept = b.layout().stream().filter(p -> p.kind() != Kind.WEIGHT && p.resident()).toList();
        try (Arena arena = Arena.ofConfined()) {
            List<MemorySegment> values = kept.stream().map(p -> values(p, arena)).toList();
            bring(b, DType.F32);
            for (int i = 0; i < kept.size(); i++) memory.write(kept.get(i).value(), values.get(i));
        }
    }

    /** Gives the head a copy of the embedding of its own, for what changes one of the two; both must be in memory as masters. */
    public void untie() {
        if (head != embedding) return;
        head = Block.absent("lm_head.weight", Kind.HEAD, config.V(), config.C());
        head.place(memory.tensor("head", embedding.value().dims()));
        memory.set(head.value(), memory.floats(embedding.value()));
        config = config.tied(false);
    }

    /** Turns channels and scales rows in the forward pass from here on; what reads turned channels must hold the inverse. */
    public void turn(ModelConfig.Online online) {
        config = config.online(online);
        for (Block b : blocks) b.turn(online);
    }

    /** From here on the masters in memory, which a stage has changed, are the model: nothing is read again, nothing dropped. */
    public void keep() {
        source = null;
    }

    /** Takes every parameter back to what its source has, as an fp32 master. */
    public void restore() {
        Fail.unless(origin != null, "there is nothing to read the model from again");
        source = origin;
        config = read;
        if (head != embedding && read.tied()) {
            memory.free(head.value().address);
            head = embedding;
        }
        for (Block b : blocks) {
            b.turn(read.online());
            forget(b);
        }
        if (!shared) for (Param p : ends()) source.read(memory, p);
        masters();
    }

    /** Gives a block's weights back, since codes stand for them; gains and biases stay. Without a source, everything stays. */
    public void release(Block b) {
        if (source == null || !b.resident()) return;
        List<Param> kept = b.layout().stream().filter(p -> p.kind() != Kind.WEIGHT).toList();
        long old = slabs.get(b);
        try (Arena arena = Arena.ofConfined()) {
            List<MemorySegment> values = kept.stream().map(p -> values(p, arena)).toList();
            memory.free(old);
            for (Linear l : b.linears()) l.weight.leave();
            slabs.put(b, Slab.of(memory, "block %d gains".formatted(b.index), s -> {
                for (Param p : kept) p.place(s.place(p, DType.F32));
                return s;
            }).address());
            for (int i = 0; i < kept.size(); i++) memory.write(kept.get(i).value(), values.get(i));
        }
    }

    /** Gives all of a block back. Without a source, it stays. */
    public void forget(Block b) {
        if (source == null || !slabs.containsKey(b)) return;
        memory.free(slabs.remove(b));
        for (Param p : b.layout()) p.leave();
    }

    /** Fresh weights, see {@link Fresh}. */
    public void randomize(long seed) {
        Fresh.fill(this, seed);
    }

    public Memory memory() {
        return memory;
    }

    public List<Block> blocks() {
        return blocks;
    }

    public List<Linear> linears() {
        return blocks.stream().flatMap(b -> b.linears().stream()).toList();
    }

    /** Every parameter once, in the order of the forward pass. */
    public List<Param> params() {
        List<Param> all = new ArrayList<>();
        all.add(embedding);
        for (Block b : blocks) all.addAll(b.params());
        all.add(norm);
        if (head != embedding) all.add(head);
        return all;
    }

    /** Takes what methods put there out of every site. */
    public void clearSites() {
        embedSite.clear();
        hiddenSite.clear();
        blocks.forEach(Block::clearSites);
    }

    /** Positions of B sequences of T tokens, kept for as long as they are needed. */
    public Positions positions(int B, int T) {
        Tensor p = memory.tensor("positions", DType.I32, (long) B * T);
        int[] at = new int[B * T];
        for (int i = 0; i < at.length; i++) at[i] = i % T;
        memory.set(p, at);
        return new Positions(B, T, rope, p);
    }

    /** (2, context, D/2): cosines, then sines. */
    public Tensor rope() {
        return rope;
    }

    /** ids I32 (N) → (N, C), the input of block 0. */
    public Tensor embed(Tape t, Tensor ids) {
        return embedSite.through(t, Ops.embed(t, ids, embedding.value()));
    }

    /** The last hidden states, which the head turns into logits.   ids I32 (B·T) → (B·T, C) */
    public Tensor hidden(Tape t, Tensor ids, Positions at, boolean keep) {
        Tensor x = keep && t.recording() ? embed(t, ids) : null;
        for (Block b : blocks) {
            // what is kept to run a block again is kept as products read it, but for the last
            DType type = t.recording() && b != blocks.getLast() ? frozen : DType.F32;
            Tensor y = x == null ? t.segment(type, () -> b.forward(t, embed(t, ids), at), ids.size(), config.C())
                    : t.segment(x, keep, type, in -> b.forward(t, in, at));
            if (x != null && (!t.recording() || !y.wants)) t.drop(x);
            x = y;
        }
        return normed(t, x);
    }

    /** The final norm. */
    public Tensor normed(Tape t, Tensor x) {
        return hiddenSite.through(t, Ops.rmsnorm(t, x, norm.value(), config.eps()));
    }

    /** A host copy of a parameter's values, fp32. */
    public MemorySegment values(Param p, Arena arena) {
        MemorySegment out = arena.allocate(ValueLayout.JAVA_FLOAT, p.value().size());
        values(p, out);
        return out;
    }

    /** Copies a parameter's values to the host.   floats (size) */
    public void values(Param p, MemorySegment floats) {
        Fail.unless(p.resident(), "%s is not in memory", p.name());
        if (p.value().type == DType.F32) {
            memory.read(floats, p.value());
            return;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment narrow = arena.allocate(p.value().bytes(), 64);
            memory.read(narrow, p.value());
            StoredType.BF16.widen(floats, narrow);
        }
    }
}
