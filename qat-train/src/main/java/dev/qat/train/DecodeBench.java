package dev.qat.train;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.MatVec;
import dev.qat.ops.Philox;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The products that one decoded token needs, with the linears stored as fp32, BF16 and trits: each set is far larger than the
 * caches, so the products wait for memory. The three take turns, so that all see the same clock.
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

    public static List<Row> run(CpuBackend backend, Shape s) {
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
        List<Runnable> tokens = List.of(() -> wide.forEach(w -> v.times(y, w, x)), () -> half.forEach(w -> v.times(y, w, x)), () -> trits.forEach(w -> v.times(y, w, x)));
        double[][] seconds = new double[3][s.turns];
        for (int turn = -Math.max(3, 200 / s.matrices); turn < s.turns; turn++) {
            for (int k = 0; k < 3; k++) {
                long start = System.nanoTime();
                tokens.get(k).run();
                if (turn >= 0) seconds[k][turn] = (System.nanoTime() - start) * 1e-9;
            }
        }
        double weights = (double) n * n * s.matrices;
        return List.of(new Row("fp32", median(seconds[0]), 4 * weights), new Row("bf16", median(seconds[1]), 2 * weights),
                new Row("trits", median(seconds[2]), weights / 4 + 4 * weights / s.group));
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
