package dev.qat.cpu;

import dev.qat.tensor.HostMemory;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * The few words the vector loops are written in. Each gives the same bits whether interpreted or compiled: sums over lanes
 * fold in a fixed order (reduceLanes promises none), exp is a polynomial of exact fused multiply-adds.
 */
final class Lanes {
    static final VectorSpecies<Float> S = FloatVector.SPECIES_PREFERRED;
    static final int L = S.length();
    private static final MemorySegment ALL = HostMemory.ALL;
    private static final ByteOrder ORDER = ByteOrder.nativeOrder();
    /** 1.5 · 2^23: adding and subtracting it rounds |x| < 2^22 to the nearest whole number, half to even, as Math.rint. */
    private static final float MAGIC = 0x1.8p23f;
    /** Of exp, ln 2 in two parts and negated. Constants, since C2 inlines only so much in one method, broadcasts included, and boxes vectors beyond that. */
    private static final FloatVector LEAST = of(-87.33f), MOST = of(88.37f), LOG2E = of(1.44269504f), MINUS_LN2_HI = of(-0.693359375f), MINUS_LN2_LO = of(2.12194440e-4f), ROUND = of(MAGIC), ONE = of(1f),
            P0 = of(1.9875691500e-4f), P1 = of(1.3981999507e-3f), P2 = of(8.3334519073e-3f), P3 = of(4.1665795894e-2f), P4 = of(1.6666665459e-1f), P5 = of(5.0000001201e-1f);
    private static final IntVector BIAS = ROUND.reinterpretAsInts().sub(127);
    private static final VectorShuffle<Float>[] FOLDS = folds();

    private Lanes() {}

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static VectorShuffle<Float>[] folds() {
        int n = Integer.numberOfTrailingZeros(L);
        VectorShuffle<Float>[] f = new VectorShuffle[n];
        for (int k = 0; k < n; k++) {
            int d = L >> (k + 1);
            f[k] = VectorShuffle.fromOp(S, i -> (i + d) & (L - 1));
        }
        return f;
    }

    static FloatVector load(long address) {
        return FloatVector.fromMemorySegment(S, ALL, address, ORDER);
    }

    static FloatVector load(long address, VectorMask<Float> m) {
        return FloatVector.fromMemorySegment(S, ALL, address, ORDER, m);
    }

    static void store(long address, FloatVector v) {
        v.intoMemorySegment(ALL, address, ORDER);
    }

    static void store(long address, FloatVector v, VectorMask<Float> m) {
        v.intoMemorySegment(ALL, address, ORDER, m);
    }

    /** The lanes of a last, partial vector: those before {@code left}. */
    static VectorMask<Float> tail(long left) {
        return S.indexInRange(0, left);
    }

    static FloatVector of(float v) {
        return FloatVector.broadcast(S, v);
    }

    static FloatVector zero() {
        return FloatVector.zero(S);
    }

    static float get(long address) {
        return ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, address);
    }

    static void put(long address, float v) {
        ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, address, v);
    }

    static int getInt(long address) {
        return ALL.get(ValueLayout.JAVA_INT_UNALIGNED, address);
    }

    static void putInt(long address, int v) {
        ALL.set(ValueLayout.JAVA_INT_UNALIGNED, address, v);
    }

    /** Σ of all lanes, folded in halves. */
    static float sum(FloatVector v) {
        for (VectorShuffle<Float> f : FOLDS) v = v.add(v.rearrange(f));
        return v.lane(0);
    }

    static float max(FloatVector v) {
        return v.reduceLanes(VectorOperators.MAX);
    }

    /** Nearest whole number, half to even, for |v| < 2^22; larger values stay larger. */
    static FloatVector rint(FloatVector v) {
        return v.add(MAGIC).sub(MAGIC);
    }

    /** v clamped to [lo, hi]; NaN stays NaN. */
    static FloatVector clamp(FloatVector v, float lo, float hi) {
        FloatVector low = v.blend(lo, v.compare(VectorOperators.LT, lo));
        return low.blend(hi, low.compare(VectorOperators.GT, hi));
    }

    /** e^v to 2 ulp: v = n ln 2 + r, e^r by a polynomial (Cephes), 2^n put into the exponent. */
    static FloatVector exp(FloatVector v) {
        v = v.blend(LEAST, v.compare(VectorOperators.LT, LEAST));
        v = v.blend(MOST, v.compare(VectorOperators.GT, MOST));
        FloatVector shifted = v.fma(LOG2E, ROUND);
        FloatVector n = shifted.sub(ROUND);
        FloatVector r = n.fma(MINUS_LN2_LO, n.fma(MINUS_LN2_HI, v));
        FloatVector p = r.fma(P0, P1).fma(r, P2).fma(r, P3).fma(r, P4).fma(r, P5);
        p = p.fma(r.mul(r), r).add(ONE);
        IntVector power = shifted.reinterpretAsInts().sub(BIAS).lanewise(VectorOperators.LSHL, 23);
        return p.mul(power.reinterpretAsFloats());
    }

    /** 1 / (1 + e^−v) */
    static FloatVector sigmoid(FloatVector v) {
        return ONE.div(exp(v.neg()).add(ONE));
    }
}
