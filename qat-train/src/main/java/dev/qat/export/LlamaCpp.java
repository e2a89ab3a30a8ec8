package dev.qat.export;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The process in which llama.cpp runs, so that a crash of it costs nobody else anything: reads requests from standard input
 * and answers on standard output, big-endian, until the input ends.
 *
 * <pre>
 * at the start                                                  → i32 1
 * 'L' utf file                                                  → i32 vocabulary (−1: refused), i32 context
 * 'C' i32 tokens, i32 sequences, i32 threads                    → i32 1, or 0: refused
 * 'S' i32 T, T ids, T targets                                   → T f32: −log p(target), 0 where it is negative
 * 'G' i32 T, T ids                                              → T · V f32 logits
 * 'D' i32 n, n ids, n positions, n sequences                    → n · V f32 logits; position 0 begins anew
 * 'N' i32 n, i32 id                                            → i64 nanoseconds for n tokens after it, each the likeliest
 * 'T' i32 n, n bytes of UTF-8                                   → i32 n, n ids
 * 'M' i32 type, row bytes, width, matrices, threads, turns      → i32 1: products of a token with square matrices are ready
 * 'm' i32 which 'M', from 0                                    → i64 nanoseconds of one turn of all its products
 * 'Q' i32 type, i64 rows, i64 columns, i32 size, f32 weights    → size bytes
 * </pre>
 *
 * An answer that cannot be given ends the process; the reason stands on standard error.
 */
public final class LlamaCpp {
    private final DataInputStream in;
    private final DataOutputStream out;
    private final LlamaNative llama;
    private final List<GgmlProducts> products = new ArrayList<>();
    private int vocabulary;

    private LlamaCpp(LlamaNative llama, DataInputStream in, DataOutputStream out) {
        this.llama = llama;
        this.in = in;
        this.out = out;
    }

    /** @param args the library's file */
    public static void main(String[] args) {
        int code = 0;
        try {
            LlamaNative llama = new LlamaNative(Path.of(args[0]));
            var in = new DataInputStream(new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16));
            var out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
            out.writeInt(1);
            out.flush();
            new LlamaCpp(llama, in, out).serve();
        } catch (EOFException e) {
            code = 0; // the parent is done
        } catch (Throwable e) {
            System.err.println("qat: " + e);
            code = 70;
        }
        Runtime.getRuntime().halt(code); // the library's destructors are none of ours
    }

    private void serve() throws Throwable {
        while (true) {
            switch (in.readByte()) {
                case 'L' -> load();
                case 'C' -> out.writeInt(llama.context(in.readInt(), in.readInt(), in.readInt()) ? 1 : 0);
                case 'S' -> score();
                case 'G' -> logits();
                case 'D' -> step();
                case 'N' -> speak();
                case 'T' -> tokenize();
                case 'M' -> {
                    products.add(new GgmlProducts(llama, in.readInt(), in.readInt(), in.readInt(), in.readInt(), in.readInt(), in.readInt()));
                    out.writeInt(1);
                }
                case 'm' -> out.writeLong(products.get(in.readInt()).turn());
                case 'Q' -> quantize();
                default -> throw new IOException("unknown request");
            }
            out.flush();
        }
    }

    private void load() throws Throwable {
        boolean loaded = llama.load(in.readUTF());
        vocabulary = loaded ? llama.vocabulary() : -1;
        out.writeInt(vocabulary);
        out.writeInt(loaded ? llama.trainedContext() : 0);
    }

    private void score() throws Throwable {
        int T = in.readInt();
        int[] ids = ints(T), targets = ints(T);
        run(ids);
        for (int t = 0; t < T; t++) out.writeFloat(targets[t] < 0 ? 0 : (float) loss(llama.logits(t, vocabulary), targets[t]));
    }

    private static double loss(float[] logits, int target) {
        double most = Double.NEGATIVE_INFINITY, sum = 0;
        for (float x : logits) most = Math.max(most, x);
        for (float x : logits) sum += Math.exp(x - most);
        return most + Math.log(sum) - logits[target];
    }

    private void logits() throws Throwable {
        int[] ids = ints(in.readInt());
        run(ids);
        for (int t = 0; t < ids.length; t++) write(llama.logits(t, vocabulary));
    }

    /** One sequence from its beginning. */
    private void run(int[] ids) throws Throwable {
        int[] positions = new int[ids.length];
        for (int t = 0; t < positions.length; t++) positions[t] = t;
        llama.clear();
        decode(ids, positions, new int[ids.length]);
    }

    private void step() throws Throwable {
        int n = in.readInt();
        int[] ids = ints(n), positions = ints(n), sequences = ints(n);
        if (positions[0] == 0) llama.clear();
        decode(ids, positions, sequences);
        for (int i = 0; i < n; i++) write(llama.logits(i, vocabulary));
    }

    private void speak() throws Throwable {
        int n = in.readInt(), id = in.readInt();
        llama.clear();
        long start = System.nanoTime();
        for (int t = 0; t < n; t++) {
            decode(new int[] {id}, new int[] {t}, new int[] {0});
            float[] logits = llama.logits(0, vocabulary);
            id = 0;
            for (int v = 1; v < vocabulary; v++) if (logits[v] > logits[id]) id = v;
        }
        out.writeLong(System.nanoTime() - start);
    }

    private void decode(int[] ids, int[] positions, int[] sequences) throws Throwable {
        int result = llama.decode(ids, positions, sequences);
        if (result != 0) throw new IOException("llama_decode returned " + result + " for " + ids.length + " tokens");
    }

    private void tokenize() throws Throwable {
        byte[] utf8 = new byte[in.readInt()];
        in.readFully(utf8);
        int[] ids = llama.tokenize(utf8);
        out.writeInt(ids.length);
        for (int id : ids) out.writeInt(id);
    }

    private void quantize() throws Throwable {
        int type = in.readInt();
        long rows = in.readLong(), cols = in.readLong();
        int size = in.readInt();
        float[] floats = new float[Math.toIntExact(rows * cols)];
        for (int i = 0; i < floats.length; i++) floats[i] = in.readFloat();
        out.write(llama.quantize(type, floats, rows, cols, size));
    }

    private int[] ints(int n) throws IOException {
        int[] values = new int[n];
        for (int i = 0; i < n; i++) values[i] = in.readInt();
        return values;
    }

    private void write(float[] values) throws IOException {
        for (float v : values) out.writeFloat(v);
    }
}
