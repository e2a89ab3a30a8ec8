package dev.qat.cpu;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.S;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.of;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.store;
import static dev.qat.cpu.Lanes.zero;
import static jdk.incubator.vector.VectorOperators.ASHR;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The products of decoding, one token at a time, which wait for memory: y = W · x with W in fp32, BF16, or as trits.
 *
 * <p>A product with trits is made of additions. Of every 8 activations, rounded to 10 bits of the largest of their 64, three tables are
 * made: all 27 sums that trits make of the first three, of the next three, and the 9 of the last two. A row's 8 trits are a 16-bit word
 * with the places to look up in them, 2 bits a weight; a vector is one word each of as many rows, and 64 columns add up within 16 bits
 * (64 · 511 < 2^15) before they meet the scales of row and activations in fp32. Vectors of 512 bits hold a whole table; on narrower
 * ones rows look up one by one. Both add the same numbers in the same order, so their bits agree.
 */
public final class MatVec {
    /** Columns that share a unit; columns of a word; rows of a block. */
    private static final int PART = 64, WORD = 8, BLOCK = 64;
    private static final int MOST = 511, ENTRIES = 32, TABLES = 3;
    private static final int PLANE = 2 * BLOCK;                // bytes of one word of every row of a block
    private static final VectorSpecies<Short> HALVES = VectorSpecies.of(short.class, VectorShape.forBitSize(S.vectorBitSize() / 2));
    private static final VectorSpecies<Integer> INTS = VectorSpecies.of(int.class, VectorShape.forBitSize(S.vectorBitSize()));
    private static final VectorSpecies<Short> WHOLE = VectorSpecies.of(short.class, VectorShape.forBitSize(S.vectorBitSize()));
    /** What entry n counts of the first, the second and the third activation of its table, −1, 0 or 1. */
    private static final short[][] SIGNS = new short[3][ENTRIES];

    static {
        for (int n = 0; n < 27; n++) for (int k = 0, power = 1; k < 3; k++, power *= 3) SIGNS[k][n] = (short) (n / power % 3 - 1);
    }

    private final Threads team;
    private final Memory memory;
    private final boolean wide;
    private Tensor tables, units;       // I16 (I/8, 3, 32); (I/64)

    public MatVec(CpuBackend backend) {
        this(backend, WHOLE.length() == ENTRIES);
    }

    /** @param wide whether a vector holds a table */
    MatVec(CpuBackend backend, boolean wide) {
        this.wide = wide;
        team = backend.team();
        memory = backend.memory();
    }

    /**
     * A ternary matrix ready for products: rows in blocks of 64, the last filled up with zeros.
     *
     * @param words I16 (O/64, I/8, 64): where to look up, 5, 5 and 4 bits, rows in the order of {@link #lane}  @param scale (O/64, I/G, 64)
     * @param group G, a multiple of 64  @param rows O
     */
    public record Trits(Tensor words, Tensor scale, int group, long rows) {
        /** From codes 0, 1, 2 about a zero point of 1. */
        public static Trits of(PackedWeight p, CpuBackend backend) {
            if (p.bits() != 2 || !fits(p.group())) throw Fail.usage("%s: %d bits in groups of %d; ternary products take 2 bits and groups of a multiple of %d", p.name(), p.bits(), p.group(), PART);
            int O = Math.toIntExact(p.rows()), I = Math.toIntExact(p.cols()), G = p.group(), blocks = Math.ceilDiv(O, BLOCK), width = Math.toIntExact(p.words().cols());
            int[] codes = backend.memory().ints(p.words());
            float[] step = backend.memory().floats(p.step()), scale = new float[blocks * (I / G) * BLOCK];
            short[] words = new short[blocks * (I / WORD) * BLOCK];
            Arrays.fill(words, place(0x5555));
            for (int o = 0; o < O; o++) {
                for (int w = 0; w < I / WORD; w++) {
                    int eight = codes[o * width + w / 2] >>> 16 * (w % 2) & 0xffff;
                    Fail.unless((eight & eight >>> 1 & 0x5555) == 0, "%s: row %d has the code 3, which is no trit", p.name(), o);
                    words[(o / BLOCK * (I / WORD) + w) * BLOCK + lane(o % BLOCK)] = place(eight);
                }
                for (int g = 0; g < I / G; g++) scale[(o / BLOCK * (I / G) + g) * BLOCK + o % BLOCK] = step[o * (I / G) + g];
            }
            Tensor t = backend.memory().tensor(p.name() + ".trits", DType.U8, 2L * words.length), s = backend.memory().tensor(p.name() + ".scales", scale.length);
            backend.memory().write(t, MemorySegment.ofArray(words));
            backend.memory().set(s, scale);
            return new Trits(t, s, G, O);
        }

        /** Whether these products take weights of which so many share a scale. */
        public static boolean fits(int group) {
            return group % PART == 0;
        }

        /** Where a row of a block stands: of 32, the first 16 in even lanes and the others in odd ones, so that 32-bit shifts part them. */
        private static int lane(int row) {
            int half = ENTRIES / 2;
            return row / ENTRIES * ENTRIES + row % half * 2 + row / half % 2;
        }

        /** Eight codes of 2 bits as the places of their sums in three tables. */
        private static short place(int codes) {
            int a = 0, b = 0, c = 0;
            for (int k = 2; k >= 0; k--) {
                a = 3 * a + (codes >>> 2 * k & 3);
                b = 3 * b + (codes >>> 2 * (k + 3) & 3);
                if (k < 2) c = 3 * c + (codes >>> 2 * (k + 6) & 3);
            }
            return (short) (a | b << 5 | c + 9 << 10);
        }
    }

    /** y = x · Ŵᵀ + bias + plus, a row of x at a time.   y (N, O)  x (N, I)  bias (O), plus (N, O) or null */
    public void times(Tensor y, Trits w, Tensor x, Tensor bias, Tensor plus) {
        for (long n = 0; n < x.rows(); n++) {
            long at = 4 * n * w.rows;
            row(y.address + at, w, x.address + 4 * n * x.cols(), Math.toIntExact(x.cols()), bias == null ? 0 : bias.address, plus == null ? 0 : plus.address + at);
        }
    }

    private void row(long y, Trits w, long x, int I, long bias, long plus) {
        prepare(x, I);
        long blocks = Math.ceilDiv(w.rows, BLOCK), words = (long) I / WORD * PLANE, scales = 4L * (I / w.group) * BLOCK;
        team.each(blocks, 1, (_, from, to) -> {
            try (Arena arena = Arena.ofConfined()) {
                long sums = arena.allocate(4 * BLOCK, 64).address();
                for (long b = from; b < to; b++) {
                    if (wide) wide(sums, w.words.address + b * words, w.scale.address + b * scales, I, w.group);
                    else narrow(sums, w.words.address + b * words, w.scale.address + b * scales, I, w.group);
                    for (long o = b * BLOCK; o < Math.min((b + 1) * BLOCK, w.rows); o++) {
                        float sum = get(sums + 4 * (o - b * BLOCK));
                        if (bias != 0) sum += get(bias + 4 * o);
                        if (plus != 0) sum += get(plus + 4 * o);
                        put(y + 4 * o, sum);
                    }
                }
            }
        });
    }

    /** Rounds x and makes its tables. */
    private void prepare(long x, int I) {
        if (units == null || units.size() < I / PART) {
            if (units != null) for (Tensor t : List.of(tables, units)) memory.free(t.address);
            tables = memory.tensor("sums of activations", DType.U8, (long) I / WORD * TABLES * ENTRIES * 2);
            units = memory.tensor("units of activations", I / PART);
        }
        short[] q = new short[9];
        for (int part = 0; part < I; part += PART) {
            FloatVector m = zero();
            for (int i = part; i < part + PART; i += L) m = m.max(load(x + 4L * i).abs());
            float unit = Math.max(Lanes.max(m), Float.MIN_NORMAL) / MOST;
            put(units.address + 4L * (part / PART), unit);
            for (int c = part; c < part + PART; c += WORD) {
                for (int k = 0; k < WORD; k++) q[k] = (short) Math.rint(get(x + 4L * (c + k)) / unit);
                for (int t = 0; t < TABLES; t++) table(tables.address + 2L * ENTRIES * (c / WORD * TABLES + t), q[3 * t], q[3 * t + 1], q[3 * t + 2]);
            }
        }
    }

    /** All sums of up to three numbers, each counted −1, 0 or 1 times. */
    private static void table(long to, short a, short b, short c) {
        for (int n = 0; n < ENTRIES; n += WHOLE.length()) {
            ShortVector first = ShortVector.fromArray(WHOLE, SIGNS[0], n), second = ShortVector.fromArray(WHOLE, SIGNS[1], n), third = ShortVector.fromArray(WHOLE, SIGNS[2], n);
            first.mul(a).add(second.mul(b)).add(third.mul(c)).intoMemorySegment(HostMemory.ALL, to + 2L * n, ByteOrder.nativeOrder());
        }
    }

    /** The products of a block's 64 rows, two vectors of words at a time.   sums (64) */
    private void wide(long sums, long words, long scale, int I, int G) {
        FloatVector s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
        long table = tables.address;
        for (int part = 0; part < I; part += PART) {
            ShortVector low = ShortVector.zero(WHOLE), high = low;
            for (int c = 0; c < PART; c += WORD, words += PLANE, table += TABLES * 2 * ENTRIES) {
                ShortVector t0 = shorts(table), t1 = shorts(table + 2 * ENTRIES), t2 = shorts(table + 4 * ENTRIES), a = shorts(words), b = shorts(words + 2 * ENTRIES);
                low = low.add(a.selectFrom(t0)).add(a.lanewise(LSHR, 5).selectFrom(t1)).add(a.lanewise(LSHR, 10).selectFrom(t2));
                high = high.add(b.selectFrom(t0)).add(b.lanewise(LSHR, 5).selectFrom(t1)).add(b.lanewise(LSHR, 10).selectFrom(t2));
            }
            FloatVector unit = of(get(units.address + 4L * (part / PART)));
            long at = scale + 4L * BLOCK * (part / G);
            IntVector first = low.reinterpretAsInts(), second = high.reinterpretAsInts();
            s0 = floats(first.lanewise(LSHL, 16)).fma(load(at).mul(unit), s0);
            s1 = floats(first).fma(load(at + 4L * L).mul(unit), s1);
            s2 = floats(second.lanewise(LSHL, 16)).fma(load(at + 8L * L).mul(unit), s2);
            s3 = floats(second).fma(load(at + 12L * L).mul(unit), s3);
        }
        store(sums, s0);
        store(sums + 4L * L, s1);
        store(sums + 8L * L, s2);
        store(sums + 12L * L, s3);
    }

    private static ShortVector shorts(long address) {
        return ShortVector.fromMemorySegment(WHOLE, HostMemory.ALL, address, ByteOrder.nativeOrder());
    }

    /** The upper halves as whole numbers. */
    private static FloatVector floats(IntVector v) {
        return (FloatVector) v.lanewise(ASHR, 16).convertShape(VectorOperators.I2F, S, 0);
    }

    /** The same, a row at a time. */
    private void narrow(long sums, long words, long scale, int I, int G) {
        for (int r = 0; r < BLOCK; r++) {
            float sum = 0;
            long table = tables.address, word = words + 2 * Trits.lane(r);
            for (int part = 0; part < I; part += PART) {
                int s = 0;
                for (int c = 0; c < PART; c += WORD, word += PLANE, table += TABLES * 2 * ENTRIES) {
                    int w = get16(word);
                    s += get16(table + 2 * (w & 31)) + get16(table + 2 * (32 + (w >>> 5 & 31))) + get16(table + 2 * (64 + (w >>> 10 & 31)));
                }
                sum = Math.fma((float) s, get(scale + 4L * (BLOCK * (part / G) + r)) * get(units.address + 4L * (part / PART)), sum);
            }
            put(sums + 4L * r, sum);
        }
    }

    private static int get16(long address) {
        return HostMemory.ALL.get(ValueLayout.JAVA_SHORT_UNALIGNED, address);
    }

    /** y = W · x for W (O, I) in fp32 or BF16, I a multiple of 64. */
    public void times(Tensor y, Tensor w, Tensor x) {
        int I = Math.toIntExact(x.size());
        Fail.unless(I % PART == 0, "rows of %d, expected a multiple of %d", I, PART);
        boolean half = w.type == DType.BF16;
        team.each(y.size(), 1, (_, from, to) -> {
            for (long o = from; o < to; o++) put(y.address + 4 * o, half ? halves(w.address + 2 * o * I, x.address, I) : floats(w.address + 4 * o * I, x.address, I));
        });
    }

    private static float floats(long w, long x, int I) {
        FloatVector a = zero(), b = zero(), c = zero(), d = zero();
        for (long i = 0; i < 4L * I; i += 16L * L) {
            a = load(w + i).fma(load(x + i), a);
            b = load(w + i + 4L * L).fma(load(x + i + 4L * L), b);
            c = load(w + i + 8L * L).fma(load(x + i + 8L * L), c);
            d = load(w + i + 12L * L).fma(load(x + i + 12L * L), d);
        }
        return Lanes.sum(a.add(b).add(c.add(d)));
    }

    private static float halves(long w, long x, int I) {
        FloatVector a = zero(), b = zero(), c = zero(), d = zero();
        for (int i = 0; i < I; i += 4 * L) {
            a = half(w + 2L * i).fma(load(x + 4L * i), a);
            b = half(w + 2L * (i + L)).fma(load(x + 4L * (i + L)), b);
            c = half(w + 2L * (i + 2 * L)).fma(load(x + 4L * (i + 2 * L)), c);
            d = half(w + 2L * (i + 3 * L)).fma(load(x + 4L * (i + 3 * L)), d);
        }
        return Lanes.sum(a.add(b).add(c.add(d)));
    }

    /** A BF16 number is the upper half of an fp32 one. */
    private static FloatVector half(long address) {
        ShortVector h = ShortVector.fromMemorySegment(HALVES, HostMemory.ALL, address, ByteOrder.nativeOrder());
        IntVector wide = (IntVector) h.convertShape(VectorOperators.ZERO_EXTEND_S2I, INTS, 0);
        return wide.lanewise(LSHL, 16).reinterpretAsFloats();
    }
}
