// minMaxQuant.cu -- every group on its own min-max grid, with 0 always on it; Q = 2^b − 1
//
//   lo = min(0, min w)   hi = max(0, max w)   s = max(hi − lo, 1e-12) / Q   z = rint(−lo / s)
//   y  = (clamp(rint(w/s) + z, 0, Q) − z) · s
//
//   backward, roundings straight through, the range a function of w:   u = rint(w/s) + z   q = clamp(u, 0, Q)   M = 1[0 ≤ u ≤ Q]
//   D = Σ_group dy · (1 − M)   ds = Σ_group dy · (q − z − M·w/s) − D · lo/s  (0 where hi − lo ≤ 1e-12)
//   dw (+)= dy · M + [first greatest, hi > 0] ds/Q + [first least, lo < 0] (D − ds/Q)
//
// w (groups · G) fp32 or BF16   y the same, written as the operand of the product that reads it
// dw, dy (groups · G) fp32; dw may be dy      acc: 0 writes, 1 adds
// `lanes` neighbouring threads (a power of two, at most a warp) share a group.  One rounding per operation: the same bits as
// the reference.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) minMaxQuant(void* y, int halfY, const void* w, int halfW, float Q, int groups, int G, int lanes,
                                                              int wide) {
    int group = groupOf(lanes), lane = threadIdx.x % lanes;
    float lo = 0, hi = 0;
    if (group < groups) for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4];
        get4(v, w, (i64) group * G + i, G - i, wide, halfW);
        for (int k = 0; k < 4; k++) lo = least(lo, v[k]), hi = most(hi, v[k]);
    }
    for (int d = lanes / 2; d > 0; d /= 2) {
        lo = least(lo, __shfl_xor_sync(FULL, lo, d));
        hi = most(hi, __shfl_xor_sync(FULL, hi, d));
    }
    if (group >= groups) return;
    float s = most(hi - lo, 1e-12f) / Q, z = rintf(-lo / s);
    for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4];
        get4(v, w, (i64) group * G + i, G - i, wide, halfW);
        for (int k = 0; k < 4; k++) v[k] = (clamp(rintf(v[k] / s) + z, 0, Q) - z) * s;
        put4(y, (i64) group * G + i, v, G - i, wide, halfY);
    }
}

// The first least and greatest of a group, so that equal weights give one of them the slope.
struct Extremes {
    float least = INF, most = -INF;
    int leastAt = 0x7fffffff, mostAt = 0x7fffffff;

    __device__ void low(float v, int i) { if (v < least || v == least && i < leastAt) least = v, leastAt = i; }
    __device__ void high(float v, int i) { if (v > most || v == most && i < mostAt) most = v, mostAt = i; }
};

extern "C" __global__ void __launch_bounds__(256) minMaxQuantBack(float* dw, int acc, const float* dy, const void* w, int halfW, float Q,
                                                                  int groups, int G, int lanes, int wide) {
    int group = groupOf(lanes), lane = threadIdx.x % lanes;
    i64 at = (i64) group * G;
    Extremes e;
    if (group < groups) for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4];
        get4(v, w, at + i, G - i, wide, halfW);
        for (int k = 0; k < 4; k++) if (i + k < G) e.low(v[k], i + k), e.high(v[k], i + k);
    }
    for (int d = lanes / 2; d > 0; d /= 2) {
        float least = __shfl_xor_sync(FULL, e.least, d), most = __shfl_xor_sync(FULL, e.most, d);
        int leastAt = __shfl_xor_sync(FULL, e.leastAt, d), mostAt = __shfl_xor_sync(FULL, e.mostAt, d);
        e.low(least, leastAt), e.high(most, mostAt);
    }
    float lo = fminf(e.least, 0), hi = fmaxf(e.most, 0), s = fmaxf(hi - lo, 1e-12f) / Q, z = rintf(-lo / s), ds = 0, out = 0;
    if (group < groups) for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4], d[4];
        get4(v, w, at + i, G - i, wide, halfW);
        get4(d, dy, at + i, G - i, wide);
        for (int k = 0; k < 4; k++) {
            float x = v[k] / s, u = rintf(x) + z;
            bool outside = u < 0 || u > Q;
            ds += d[k] * (clamp(u, 0, Q) - z - (outside ? 0 : x));
            if (outside) out += d[k];
        }
    }
    ds = lanesSum(ds, lanes), out = lanesSum(out, lanes);
    if (group >= groups) return;
    ds = hi - lo > 1e-12f ? ds - out * lo / s : 0;
    for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4], d[4];
        get4(v, w, at + i, G - i, wide, halfW);
        get4(d, dy, at + i, G - i, wide);
        for (int k = 0; k < 4; k++) {
            float u = rintf(v[k] / s) + z;
            if (u < 0 || u > Q) d[k] *= 0;
            if (i + k == e.mostAt && hi > 0) d[k] += ds / Q;
            if (i + k == e.leastAt && lo < 0) d[k] += out - ds / Q;
        }
        give4(dw, at + i, d, G - i, wide, acc);
    }
}
