package dev.qat.export;

import dev.qat.cpu.ReferenceBackend;
import dev.qat.data.CausalLm;
import dev.qat.ops.Backend;
import dev.qat.ops.Sampling;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * A GGUF file run by llama.cpp (build 4916, CPU) in a process of its own, behind the interface our own engine has: the same
 * judges measure both.
 */
public final class LlamaCppLm implements CausalLm {
    private final Path file;
    private final LlamaProcess llama;
    private final int threads, vocabulary, context;
    private int tokens, sequences; // of the native context that is open now

    private LlamaCppLm(Path file, LlamaProcess llama, int threads, int vocabulary, int context) {
        this.file = file;
        this.llama = llama;
        this.threads = threads;
        this.vocabulary = vocabulary;
        this.context = context;
    }

    /** Loads a file; one that llama.cpp refuses fails with its own words. */
    public static LlamaCppLm open(Path file, int threads) {
        LlamaProcess llama = LlamaProcess.start();
        try {
            int[] found = llama.ask(o -> {
                o.writeByte('L');
                o.writeUTF(file.toAbsolutePath().toString());
            }, i -> LlamaProcess.ints(i, 2));
            if (found[0] < 0) throw Fail.data("%s: llama.cpp does not load it: %s", file, llama.reason());
            return new LlamaCppLm(file, llama, Math.max(1, threads), found[0], found[1]);
        } catch (RuntimeException e) {
            llama.close();
            throw e;
        }
    }

    @Override
    public int vocabulary() {
        return vocabulary;
    }

    @Override
    public int context() {
        return context;
    }

    @Override
    public void score(int B, int T, int[] ids, int[] targets, float[] nll) {
        reserve(T, 1);
        for (int b = 0; b < B; b++) {
            int from = b * T;
            checkIds(Arrays.copyOfRange(ids, from, from + T));
            for (int t = from; t < from + T; t++) Fail.unless(targets[t] < vocabulary, "target %d is beyond the vocabulary of %d", targets[t], vocabulary);
            float[] losses = llama.ask(o -> {
                o.writeByte('S');
                o.writeInt(T);
                LlamaProcess.write(o, Arrays.copyOfRange(ids, from, from + T));
                LlamaProcess.write(o, Arrays.copyOfRange(targets, from, from + T));
            }, i -> floats(i, T));
            System.arraycopy(losses, 0, nll, from, T);
        }
    }

    /** The logits at every token of one sequence.   ids (T) → (T · V) */
    float[] logits(int[] ids) {
        reserve(ids.length, 1);
        checkIds(ids);
        return llama.ask(o -> {
            o.writeByte('G');
            o.writeInt(ids.length);
            LlamaProcess.write(o, ids);
        }, i -> floats(i, ids.length * vocabulary));
    }

    /** Seconds for {@code n} tokens of one sequence after {@code id}, each the likeliest, without what our pipe to its process costs. */
    public double speak(int id, int n) {
        reserve(n, 1);
        checkIds(new int[] {id});
        return llama.ask(o -> {
            o.writeByte('N');
            o.writeInt(n);
            o.writeInt(id);
        }, java.io.DataInputStream::readLong) * 1e-9;
    }

    /** The ids llama.cpp itself gives a text, with BOS where the file asks for it. */
    public int[] tokenize(String text) {
        return llama.tokenize(text);
    }

    /** llama.cpp aborts on an id beyond its table. */
    private void checkIds(int[] ids) {
        for (int id : ids) Fail.unless(id >= 0 && id < vocabulary, "%s: token %d is beyond the vocabulary of %d", file, id, vocabulary);
    }

    /** Opens a native context unless one of this size is open. */
    private void reserve(int wanted, int howMany) {
        if (wanted == tokens && howMany == sequences) return;
        int opened = llama.ask(o -> {
            o.writeByte('C');
            LlamaProcess.write(o, new int[] {wanted, howMany, threads});
        }, java.io.DataInputStream::readInt);
        if (opened == 0) throw Fail.device("%s: llama.cpp cannot reserve a context of %d tokens: %s", file, wanted, llama.reason());
        tokens = wanted;
        sequences = howMany;
    }

    private static float[] floats(java.io.DataInputStream in, int n) throws java.io.IOException {
        float[] values = new float[n];
        for (int i = 0; i < n; i++) values[i] = in.readFloat();
        return values;
    }

    @Override
    public Decoder decoder(int B, int capacity, Sampling how) {
        return new Decoding(B, capacity, how);
    }

    @Override
    public void close() {
        llama.close();
    }

    /** B sequences side by side; tokens are drawn by the reference backend, so that equal logits give equal texts. */
    private final class Decoding implements Decoder {
        private final int B, capacity;
        private final Backend sampler = new ReferenceBackend();
        private final Tensor logits, keys, next;
        private final Sampling how;

        Decoding(int B, int capacity, Sampling how) {
            this.B = B;
            this.capacity = capacity;
            this.how = how;
            Memory m = sampler.memory();
            logits = m.tensor("logits", B, vocabulary);
            keys = m.tensor("random keys", DType.I32, B, 2);
            next = m.tensor("next", DType.I32, B);
        }

        @Override
        public void step(int[] ids, int[] positions, int[] sequence, int[] drawn, int[] best) {
            checkIds(ids);
            int[] lanes = new int[B], key = new int[2 * B];
            for (int b = 0; b < B; b++) {
                Fail.unless(positions[b] < capacity, "a sequence of more than %d tokens", capacity);
                Fail.unless(positions[b] == positions[0], "llama.cpp is driven with all sequences of a batch at one position, got %d and %d", positions[0], positions[b]);
                lanes[b] = b;
                key[2 * b] = sequence[b];
                key[2 * b + 1] = positions[b] + 1;
            }
            if (positions[0] == 0) reserve(B * capacity, B);
            float[] rows = llama.ask(o -> {
                o.writeByte('D');
                o.writeInt(B);
                LlamaProcess.write(o, ids);
                LlamaProcess.write(o, positions);
                LlamaProcess.write(o, lanes);
            }, i -> floats(i, B * vocabulary));
            sampler.memory().set(logits, rows);
            sampler.memory().set(keys, key);
            draw(how, drawn);
            if (best != null) draw(Sampling.GREEDY, best);
        }

        private void draw(Sampling sampling, int[] to) {
            sampler.sample(next, logits, keys, sampling);
            System.arraycopy(sampler.memory().ints(next), 0, to, 0, B);
        }

        @Override
        public void close() {
            sampler.close();
        }
    }
}
