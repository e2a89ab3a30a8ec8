package dev.qat.train;

import dev.qat.data.CausalLm;
import dev.qat.model.Block;
import dev.qat.model.Cache;
import dev.qat.model.Cache.Store;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.model.Site;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Sampling;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/** The project's own model, with whatever is in its sites, as generation and evaluation see it. */
public final class ModelLm implements CausalLm {
    /** Rows of logits that exist at one time. */
    private static final int CHUNK = 512;

    private final Model model;
    private final Backend backend;
    private final boolean integers;
    private Scorer scorer;

    public ModelLm(Model model, Backend backend) {
        this(model, backend, true);
    }

    /** @param integers whether keys and values that are rounded by the token are kept as whole numbers; else as floats of the same values */
    public ModelLm(Model model, Backend backend, boolean integers) {
        this.model = model;
        this.backend = backend;
        this.integers = integers;
    }

    @Override
    public int vocabulary() {
        return model.config.V();
    }

    @Override
    public int context() {
        return model.config.context();
    }

    @Override
    public void score(int B, int T, int[] ids, int[] targets, float[] nll) {
        if (scorer == null || scorer.at.B() != B || scorer.at.T() != T) {
            if (scorer != null) scorer.close();
            scorer = new Scorer(B, T);
        }
        scorer.score(ids, targets, nll);
    }

    @Override
    public Decoder decoder(int B, int capacity, Sampling how) {
        return new Decoding(B, capacity, how);
    }

    @Override
    public void close() {
        if (scorer != null) scorer.close();
    }

    /** Scoring of one shape of batch, planned once. */
    private final class Scorer implements AutoCloseable {
        final Positions at;
        private final Tensor ids, targets, losses;
        private final Step step;

        Scorer(int B, int T) {
            Memory m = model.memory();
            at = model.positions(B, T);
            ids = m.tensor("ids", DType.I32, (long) B * T);
            targets = m.tensor("targets", DType.I32, (long) B * T);
            losses = m.tensor("losses", (long) B * T);
            step = new Step(backend, "scoring", false, this::body);
        }

        private void body(Tape t) {
            Tensor h = model.hidden(t, ids, at, false);
            t.backend().copy(losses, Ops.crossEntropy(t, h, model.head.value(), targets, CHUNK, 1));
        }

        void score(int[] tokens, int[] wanted, float[] nll) {
            model.memory().set(ids, tokens);
            model.memory().set(targets, wanted);
            step.run();
            System.arraycopy(model.memory().floats(losses), 0, nll, 0, nll.length);
        }

        @Override
        public void close() {
            step.close();
            for (Tensor t : List.of(ids, targets, losses, at.positions())) model.memory().free(t.address);
        }
    }

    /** Decoding of one batch, whose sequences may stand at different positions. */
    private final class Decoding implements Decoder {
        private final int B, capacity;
        private final Tensor ids, keys, next, best;
        private final Cache cache;
        private final Step step;
        private final Sampling how;

        Decoding(int B, int capacity, Sampling how) {
            this.B = B;
            this.capacity = capacity;
            this.how = how;
            Memory m = model.memory();
            ids = m.tensor("ids", DType.I32, B);
            keys = m.tensor("random keys", DType.I32, B, 2);
            next = m.tensor("next", DType.I32, B);
            best = m.tensor("best", DType.I32, B);
            List<Store> k = new ArrayList<>(), v = new ArrayList<>();
            for (Block b : model.blocks()) {
                k.add(store("key cache", b.keySite));
                v.add(store("value cache", b.valueSite));
            }
            Tensor places = model.positions(B, capacity).positions();
            cache = new Cache(model.rope(), m.tensor("positions", DType.I32, B), m.tensor("lengths", DType.I32, B), places, k, v);
            step = new Step(backend, "decoding", false, this::body);
        }

        private Store store(String name, Site site) {
            Memory m = model.memory();
            Site.Rows rows = integers ? site.rows() : null;
            long width = (long) model.config.K() * model.config.D();
            if (rows == null) return new Store.Plain(m.tensor(name, B, capacity, width));
            RowGrid grid = rows.grid();
            int parts = rows.parts();
            return new Store.Integers(m.tensor(name, DType.I32, B, capacity, parts * PackedWeight.wordsPerRow(width / parts, grid.bits())),
                    m.tensor(name + " scales", B, capacity, (long) parts * grid.numbers()), grid);
        }

        private Stream<Tensor> kept() {
            return Stream.concat(cache.keys().stream(), cache.values().stream()).flatMap(s -> s.tensors().stream());
        }

        @Override
        public long cacheBytes() {
            return kept().mapToLong(Tensor::bytes).sum();
        }

        private void body(Tape t) {
            Tensor x = model.embed(t, ids);
            for (Block b : model.blocks()) x = t.segment(x, false, in -> b.decode(t, in, cache));
            Tensor h = model.normed(t, x);
            Tensor logits = Ops.linear(t, h, model.head.value(), null, null);
            t.backend().sample(next, logits, keys, how);
            t.backend().sample(best, logits, keys, Sampling.GREEDY);
        }

        @Override
        public void step(int[] tokens, int[] positions, int[] sequence, int[] drawn, int[] likeliest) {
            int[] length = new int[B], key = new int[2 * B];
            for (int b = 0; b < B; b++) {
                Fail.unless(positions[b] < capacity, "a sequence of more than %d tokens", capacity);
                length[b] = positions[b] + 1;
                key[2 * b] = sequence[b];
                key[2 * b + 1] = positions[b] + 1;
            }
            Memory m = model.memory();
            m.set(ids, tokens);
            m.set(cache.positions(), positions);
            m.set(cache.lengths(), length);
            m.set(keys, key);
            step.run();
            System.arraycopy(m.ints(next), 0, drawn, 0, B);
            if (likeliest != null) System.arraycopy(m.ints(best), 0, likeliest, 0, B);
        }

        @Override
        public void close() {
            step.close();
            Memory m = model.memory();
            for (Tensor t : List.of(ids, keys, next, best, cache.positions(), cache.lengths(), cache.places())) m.free(t.address);
            kept().forEach(t -> m.free(t.address));
        }
    }
}
