package dev.qat.train;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.MatVec;
import dev.qat.data.GgmlType;
import dev.qat.export.LlamaProducts;
import dev.qat.ops.Philox;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.DoubleSupplier;

/**
 * The products that one decoded token needs, with the linears stored as fp32, BF16 and trits, and by llama.cpp's library as F16, BF16 and
 * TQ2_0: each set is far larger than the caches, so the products wait for memory. All take turns, so that they see the same clock.
 */
public final class DecodeBench {
    /** @param seconds for one token, the median of its turns  @param bytes of the linears */
    public record Row(String storage, double seconds, double bytes) {
        public double tokensPerSecond() {
            return 1 / seconds;
        }
    }

    /** @param width of the square matrices  @param matrices how many of them a token passes  @param group that shares a scale */
    public record Shape(int width, int matrices, int group, int turns) {}

    private DecodeBench() {}

    /** @param llama runs beside ours, on as many threads, or null */
    public static List<Row> run(CpuBackend backend, Shape s, LlamaProducts llama) {
        Memory m = backend.memory();
        int n = s.width;
        List<Tensor> wide = new ArrayList<>(), half = new ArrayList<>();
        List<MatVec.Trits> trits = new ArrayList<>();
        for (int i = 0; i < s.matrices; i++) {
            PackedWeight p = random(backend, n, s.group, i);
            Tensor w = m.tensor("fp32", n, n), h = m.tensor("bf16", DType.BF16, n, n);
            backend.dequantize(w, p, p.step());
            narrow(m, h, w);
            wide.add(w);
            half.add(h);
            trits.add(MatVec.Trits.of(p, backend));
        }
        Tensor x = m.tensor("x", n), y = m.tensor("y", n);
        for (int i = 0; i < n; i++) dev.qat.tensor.HostMemory.put(x, i, (float) Philox.normal(3, i, 0, 0));
        MatVec v = new MatVec(backend);
        List<DoubleSupplier> tokens = new ArrayList<>(List.of(timed(() -> wide.forEach(w -> v.times(y, w, x))), timed(() -> half.forEach(w -> v.times(y, w, x))),
                timed(() -> trits.forEach(w -> v.times(y, w, x, null, null)))));
        List<Row> rows = new ArrayList<>();
        double weights = (double) n * n * s.matrices;
        List<String> names = new ArrayList<>(List.of("fp32", "bf16", "trits"));
        List<Double> bytes = new ArrayList<>(List.of(4 * weights, 2 * weights, weights / 4 + 4 * weights / s.group));
        int warm = Math.max(3, 400 / s.matrices);
        if (llama != null) {
            for (GgmlType type : List.of(GgmlType.F16, GgmlType.BF16, GgmlType.TQ2_0)) {
                if (n % type.elements != 0) continue;
                int made = llama.make(type, n, s.matrices, backend.threads(), warm + s.turns);
                names.add("llama.cpp " + type.label());
                bytes.add((double) type.rowBytes(n) * n * s.matrices);
                tokens.add(() -> llama.seconds(made));
            }
        }
        double[][] seconds = new double[tokens.size()][s.turns];
        for (int turn = -warm; turn < s.turns; turn++) {
            for (int k = 0; k < seconds.length; k++) {
                double took = tokens.get(k).getAsDouble();
                if (turn >= 0) seconds[k][turn] = took;
            }
        }
        for (int k = 0; k < seconds.length; k++) rows.add(new Row(names.get(k), median(seconds[k]), bytes.get(k)));
        return rows;
    }

    private static DoubleSupplier timed(Runnable token) {
        return () -> {
            long start = System.nanoTime();
            token.run();
            return (System.nanoTime() - start) * 1e-9;
        };
    }

    private static double median(double[] v) {
        Arrays.sort(v);
        return v[v.length / 2];
    }

    private static PackedWeight random(CpuBackend b, int n, int group, int seed) {
        int[] words = new int[n * (n / 16)];
        for (int i = 0; i < words.length; i++) {
            int bits = (int) (Philox.normal(seed, i, 1, 0) * 1e9) ^ i * 0x9E3779B9;
            for (int k = 0; k < 16; k++) words[i] |= (Integer.rotateLeft(bits * 0x85EBCA6B, k * 2) & 0xff) % 3 << 2 * k;
        }
        Tensor codes = b.memory().tensor("codes", DType.I32, n, n / 16), step = b.memory().tensor("step", n, n / group), zero = b.memory().tensor("zero", n, n / group);
        b.memory().set(codes, words);
        b.fill(step, 0.02f);
        b.fill(zero, 1);
        return new PackedWeight("m" + seed, 2, group, n, codes, step, zero, null);
    }

    private static void narrow(Memory m, Tensor h, Tensor w) {
        float[] f = m.floats(w);
        short[] s = new short[f.length];
        for (int i = 0; i < s.length; i++) s[i] = dev.qat.data.StoredType.toBf16(f[i]);
        m.write(h, java.lang.foreign.MemorySegment.ofArray(s));
    }
}
