package dev.qat.model;

import dev.qat.data.CausalLm;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.ops.Sampling;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import dev.qat.train.ModelLm;
import dev.qat.train.Step;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Asks a model what no judge sees: its logits, by a whole forward pass and token by token, and its gradients. */
public final class Probe {
    private static final int CHUNK = 512;

    final Backend backend;
    final Model model;
    private final Memory memory;

    public Probe(Backend backend, Model model) {
        this.backend = backend;
        this.model = model;
        this.memory = backend.memory();
    }

    private Tensor ints(int... values) {
        Tensor t = memory.tensor("ints", DType.I32, values.length);
        memory.set(t, values);
        return t;
    }

    /** (T, V) */
    public float[] logits(int... ids) {
        Tensor in = ints(ids), out = memory.tensor("logits", ids.length, model.config.V());
        Positions at = model.positions(1, ids.length);
        try (Step step = new Step(backend, "logits", false,
                t -> t.backend().copy(out, Ops.linear(t, model.hidden(t, in, at, false), model.head.value(), null, null)))) {
            step.run();
        }
        return memory.floats(out);
    }

    /** The same through a KV cache, one token after the other.   (T, V) */
    float[] decodedLogits(int... ids) {
        ModelConfig c = model.config;
        List<Cache.Store> keys = new ArrayList<>(), values = new ArrayList<>();
        for (int i = 0; i < c.layers(); i++) {
            keys.add(new Cache.Store.Plain(memory.tensor("keys", 1, ids.length, (long) c.K() * c.D())));
            values.add(new Cache.Store.Plain(memory.tensor("values", 1, ids.length, (long) c.K() * c.D())));
        }
        Tensor in = ints(0), out = memory.tensor("logits", 1, c.V());
        Cache cache = new Cache(model.rope(), ints(0), ints(0), null, keys, values);
        float[] all = new float[ids.length * c.V()];
        try (Step step = new Step(backend, "decoding", false, t -> decode(t, in, cache, out))) {
            for (int i = 0; i < ids.length; i++) {
                memory.set(in, ids[i]);
                memory.set(cache.positions(), i);
                memory.set(cache.lengths(), i + 1);
                step.run();
                System.arraycopy(memory.floats(out), 0, all, i * c.V(), c.V());
            }
        }
        return all;
    }

    private void decode(Tape t, Tensor in, Cache cache, Tensor out) {
        Tensor x = model.embed(t, in);
        for (Block b : model.blocks()) x = b.decode(t, x, cache);
        t.backend().copy(out, Ops.linear(t, Ops.rmsnorm(t, x, model.norm.value(), model.config.eps()), model.head.value(), null, null));
    }

    /** {@code count} tokens after the prompt, each the likeliest, through {@link ModelLm#decoder}. */
    public int[] greedy(int[] prompt, int count) {
        int[] said = new int[count], next = new int[1];
        try (CausalLm lm = new ModelLm(model, backend); CausalLm.Decoder decoder = lm.decoder(1, prompt.length + count, Sampling.GREEDY)) {
            for (int i = 0; i < prompt.length; i++) decoder.step(new int[] {prompt[i]}, i, new int[] {0}, next);
            for (int i = 0; i < count; i++) {
                said[i] = next[0];
                if (i + 1 < count) decoder.step(new int[] {next[0]}, prompt.length + i, new int[] {0}, next);
            }
        }
        return said;
    }

    /** Mean cross-entropy of ids[1:] after ids[:−1] and its gradient for every parameter, by name. */
    record Slopes(double loss, Map<String, float[]> gradients) {}

    Slopes gradients(int[] ids, boolean keep) {
        for (Param p : model.params()) {
            p.value().wants = true;
            p.value().grad = memory.tensor("d " + p.name(), p.value().dims());
        }
        int n = ids.length - 1;
        Tensor rows = memory.tensor("losses", n);
        try (Loss loss = new Loss(ids)) {
            try (Step step = new Step(backend, "step", true, t -> {
                Tensor each = loss.rows(t, keep);
                t.backward();
                t.backend().copy(rows, each);
            })) {
                step.run();
            }
        }
        Map<String, float[]> all = new LinkedHashMap<>();
        for (Param p : model.params()) all.put(p.name(), memory.floats(p.value().grad));
        for (Param p : model.params()) {
            p.value().wants = false;
            p.value().grad = null;
        }
        return new Slopes(mean(memory.floats(rows)), all);
    }

    /** The mean loss, again and again while a weight is moved. */
    final class Loss implements AutoCloseable {
        private final Tensor in, targets, out;
        private final Positions at;
        private final int n;
        private Step step;

        Loss(int[] ids) {
            n = ids.length - 1;
            in = ints(Arrays.copyOf(ids, n));
            targets = ints(Arrays.copyOfRange(ids, 1, ids.length));
            out = memory.tensor("losses", n);
            at = model.positions(1, n);
        }

        Tensor rows(Tape t, boolean keep) {
            return Ops.crossEntropy(t, model.hidden(t, in, at, keep), model.head.value(), targets, CHUNK, 1f / n);
        }

        double value() {
            if (step == null) step = new Step(backend, "loss", false, t -> t.backend().copy(out, rows(t, false)));
            step.run();
            return mean(memory.floats(out));
        }

        @Override
        public void close() {
            if (step != null) step.close();
        }
    }

    /** How often a forward pass over so many tokens calls each op. */
    public static Map<String, Long> calls(Backend be, Model m, int tokens) {
        Tensor ids = be.memory().tensor("ids", DType.I32, tokens);
        Positions at = m.positions(1, tokens);
        Map<String, Long> calls = new TreeMap<>();
        Step.cost(be, false, t -> m.hidden(t, ids, at, false)).ops().forEach((op, cost) -> calls.put(op, cost.calls()));
        return calls;
    }

    /** The largest difference. */
    public static double off(float[] a, float[] b) {
        double most = 0;
        for (int i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
        return most;
    }

    private static double mean(float[] x) {
        double sum = 0;
        for (float v : x) sum += v;
        return sum / x.length;
    }
}
