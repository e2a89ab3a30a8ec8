// minMaxQuant.cu -- every group on its own min-max grid, with 0 always on it; Q = 2^b − 1
//
//   lo = min(0, min w)   hi = max(0, max w)   s = max(hi − lo, 1e-12) / Q   z = rint(−lo / s)
//   y  = (clamp(rint(w/s) + z, 0, Q) − z) · s
//
// w (groups · G) fp32 or BF16   y the same, written as the operand of the product that reads it
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
