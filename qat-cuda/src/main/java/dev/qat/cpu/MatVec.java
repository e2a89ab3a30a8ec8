package dev.qat.cpu;

import static dev.qat.cpu.Lanes.L;
import static dev.qat.cpu.Lanes.S;
import static dev.qat.cpu.Lanes.get;
import static dev.qat.cpu.Lanes.load;
import static dev.qat.cpu.Lanes.of;
import static dev.qat.cpu.Lanes.put;
import static dev.qat.cpu.Lanes.zero;

import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The products of decoding, one token at a time, which wait for memory: y = W · x with W in fp32, BF16, or as trits.
 *
 * <p>Trits are two bit planes: for every 64 columns of a row a word of the ones and a word of the minus ones, 2 bits a weight.
 * A vector of x, rounded to 12 bits of its largest element, is added where a one stands and subtracted where a minus one does; the
 * only products are those with the scales, one vector a group. Rows are shared out over the backend's team, four at a time.
 */
public final class MatVec {
    private static final int WORD = 64, ROWS = 4;
    private static final VectorSpecies<Short> HALVES = VectorSpecies.of(short.class, VectorShape.forBitSize(S.vectorBitSize() / 2));
    private static final VectorSpecies<Integer> INTS = VectorSpecies.of(int.class, VectorShape.forBitSize(S.vectorBitSize()));

    private static final VectorSpecies<Short> WHOLE = VectorSpecies.of(short.class, VectorShape.forBitSize(S.vectorBitSize()));
    private static final int LANES = WHOLE.length();
    /** Activations are rounded to 12 bits: sixteen of them fit into 16, which is how many a lane takes before its sum is widened. */
    private static final int MOST = 2047, PART = 16 * LANES;

    private final Threads team;
    private final Memory memory;
    private Tensor rounded;

    public MatVec(CpuBackend backend) {
        team = backend.team();
        memory = backend.memory();
    }

    /**
     * A ternary matrix ready for products.
     *
     * @param planes I32 (O, I/16): of every 64 columns the ones' word, then the minus ones'
     * @param scale  (O, I/G)   @param bias (O) or null   @param group G, a multiple of 64
     */
    public record Trits(Tensor planes, Tensor scale, Tensor bias, int group) {
        /** From codes 0, 1, 2 about a zero point of 1. */
        public static Trits of(PackedWeight p, CpuBackend backend) {
            if (p.bits() != 2 || p.group() % WORD != 0) {
                throw Fail.usage("%s: %d bits in groups of %d; ternary products take 2 bits and groups of a multiple of %d", p.name(), p.bits(), p.group(), WORD);
            }
            int O = Math.toIntExact(p.rows()), I = Math.toIntExact(p.cols()), words = Math.toIntExact(p.words().cols());
            int[] codes = backend.memory().ints(p.words()), planes = new int[O * (I / 16)];
            for (int o = 0; o < O; o++) {
                for (int i = 0; i < I; i++) {
                    int trit = (codes[o * words + i / 16] >>> 2 * (i % 16) & 3) - 1, at = o * (I / 16) + i / WORD * 4 + i % WORD / 32;
                    if (trit == 1) planes[at] |= 1 << i % 32;
                    else if (trit == -1) planes[at + 2] |= 1 << i % 32;
                    else Fail.unless(trit == 0, "%s: code %d is no trit", p.name(), trit + 1);
                }
            }
            Tensor t = backend.memory().tensor(p.name() + ".trits", DType.I32, O, I / 16);
            backend.memory().set(t, planes);
            return new Trits(t, p.step(), p.bias(), p.group());
        }
    }

    /** y = Ŵ · x + bias.   y (O)  x (I) */
    public void times(Tensor y, Trits w, Tensor x) {
        int I = Math.toIntExact(x.size()), G = w.group;
        float unit = round(x, I);
        long rowBytes = w.planes.cols() * 4, groups = I / G;
        team.each(y.size(), ROWS, (_, from, to) -> {
            for (long o = from; o < to; o += ROWS) {
                // the last few rows are taken together with some before them
                long first = o + ROWS <= to ? o : Math.max(from, to - ROWS);
                if (first + ROWS > to) for (long r = o; r < to; r++) one(y.address + 4 * r, w.planes.address + r * rowBytes, w.scale.address + 4 * r * groups, I, G, unit);
                else four(y.address + 4 * first, w.planes.address + first * rowBytes, rowBytes, w.scale.address + 4 * first * groups, groups, I, G, unit);
            }
            if (w.bias != null) for (long o = from; o < to; o++) put(y.address + 4 * o, get(y.address + 4 * o) + get(w.bias.address + 4 * o));
        });
    }

    /** Puts x / unit into the scratch, rounded to whole numbers up to MOST, and returns the unit. */
    private float round(Tensor x, int I) {
        if (rounded == null || rounded.size() < 2L * I) {
            if (rounded != null) memory.free(rounded.address);
            rounded = memory.tensor("rounded activations", DType.U8, 2L * I);
        }
        FloatVector m = zero();
        for (int i = 0; i < I; i += L) m = m.max(load(x.address + 4L * i).abs());
        float unit = Math.max(Lanes.max(m), Float.MIN_NORMAL) / MOST, inverse = 1 / unit;
        for (int i = 0; i < I; i++) HostMemory.ALL.set(ValueLayout.JAVA_SHORT_UNALIGNED, rounded.address + 2L * i, (short) Math.rint(get(x.address + 4L * i) * inverse));
        return unit;
    }

    private static long word(long address) {
        return HostMemory.ALL.get(ValueLayout.JAVA_LONG_UNALIGNED, address);
    }

    private static VectorMask<Short> mask(long bits) {
        return VectorMask.fromLong(WHOLE, bits);
    }

    private static ShortVector shorts(long address) {
        return ShortVector.fromMemorySegment(WHOLE, HostMemory.ALL, address, ByteOrder.nativeOrder());
    }

    /** Both halves of a group's sums, as floats. */
    private static FloatVector widened(ShortVector v) {
        IntVector low = (IntVector) v.convertShape(VectorOperators.S2I, INTS, 0), high = (IntVector) v.convertShape(VectorOperators.S2I, INTS, 1);
        return (FloatVector) low.add(high).convertShape(VectorOperators.I2F, S, 0);
    }

    private void one(long y, long planes, long scale, int I, int G, float unit) {
        FloatVector sum = zero();
        for (int g = 0; g < I; g += G) {
            for (int part = g; part < g + G; part += PART) {
                ShortVector a = ShortVector.zero(WHOLE);
                for (int c = part; c < Math.min(g + G, part + PART); c += WORD) {
                    long p = word(planes + c / WORD * 16), m = word(planes + c / WORD * 16 + 8);
                    for (int k = 0; k < WORD; k += LANES) {
                        ShortVector v = shorts(rounded.address + 2L * (c + k));
                        a = a.add(v, mask(p >>> k)).sub(v, mask(m >>> k));
                    }
                }
                sum = widened(a).fma(of(get(scale + 4L * (g / G))), sum);
            }
        }
        put(y, Lanes.sum(sum) * unit);
    }

    /** Four rows share every vector of x. */
    private void four(long y, long planes, long row, long scale, long groups, int I, int G, float unit) {
        FloatVector s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
        long step = 4 * groups, x = rounded.address;
        for (int part = 0; part < I; ) {
            int end = Math.min(Math.min(I, (part / G + 1) * G), part + PART);
            ShortVector a0 = ShortVector.zero(WHOLE), a1 = a0, a2 = a0, a3 = a0;
            for (int c = part; c < end; c += WORD, planes += 16) {
                long p0 = word(planes), p1 = word(planes + row), p2 = word(planes + 2 * row), p3 = word(planes + 3 * row);
                long m0 = word(planes + 8), m1 = word(planes + row + 8), m2 = word(planes + 2 * row + 8), m3 = word(planes + 3 * row + 8);
                for (int k = 0; k < WORD; k += LANES) {
                    ShortVector v = shorts(x + 2L * (c + k));
                    a0 = a0.add(v, mask(p0 >>> k)).sub(v, mask(m0 >>> k));
                    a1 = a1.add(v, mask(p1 >>> k)).sub(v, mask(m1 >>> k));
                    a2 = a2.add(v, mask(p2 >>> k)).sub(v, mask(m2 >>> k));
                    a3 = a3.add(v, mask(p3 >>> k)).sub(v, mask(m3 >>> k));
                }
            }
            long at = scale + 4L * (part / G);
            s0 = widened(a0).fma(of(get(at)), s0);
            s1 = widened(a1).fma(of(get(at + step)), s1);
            s2 = widened(a2).fma(of(get(at + 2 * step)), s2);
            s3 = widened(a3).fma(of(get(at + 3 * step)), s3);
            part = end;
        }
        put(y, Lanes.sum(s0) * unit);
        put(y + 4, Lanes.sum(s1) * unit);
        put(y + 8, Lanes.sum(s2) * unit);
        put(y + 12, Lanes.sum(s3) * unit);
    }

    /** y = W · x for W (O, I) in fp32 or BF16, I a multiple of 64. */
    public void times(Tensor y, Tensor w, Tensor x) {
        int I = Math.toIntExact(x.size());
        Fail.unless(I % WORD == 0, "rows of %d, expected a multiple of %d", I, WORD);
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
        return wide.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
    }
}
