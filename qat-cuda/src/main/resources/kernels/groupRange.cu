// groupRange.cu -- the min-max grid of each group
//
//   step = clamp((max − min) / Q, 1e-4, 1e4)      zero = rint(−clamp(min / step, −1e4, 1e4))
//   given z >= 0:   step = clamp(max(max / (Q − z), −min / z), 1e-4, 1e4)      zero = z
//   minimum:        zero = min(min, 0)      step = clamp((max − zero) / Q, 1e-4, 1e4)
//
// w (groups · G) fp32 or BF16   step, zero (groups) fp32
// `lanes` neighbouring threads (a power of two, at most a warp) share a group.  Minima have no order to keep, the rest is one
// division each: the same bits as the reference.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) groupRange(float* step, float* zero, const void* w, int half, float Q, float given, int minimum,
                                                             int groups, int G, int lanes, int wide) {
    int group = groupOf(lanes), lane = threadIdx.x % lanes;
    float low = INF, high = -INF;
    if (group < groups) for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4];
        get4(v, w, (i64) group * G + i, G - i, wide, half);
        for (int k = 0; k < 4; k++) if (i + k < G) low = least(low, v[k]), high = most(high, v[k]);
    }
    for (int d = lanes / 2; d > 0; d /= 2) {
        low = least(low, __shfl_xor_sync(FULL, low, d));
        high = most(high, __shfl_xor_sync(FULL, high, d));
    }
    if (group >= groups || lane > 0) return;
    float bottom = minimum ? least(low, 0) : low;
    float s = clamp(given < 0 ? (high - bottom) / Q : most(high / (Q - given), -low / given), 1e-4f, 1e4f);
    step[group] = s;
    zero[group] = given >= 0 ? given : minimum ? bottom : rintf(-clamp(low / s, -1e4f, 1e4f));
}
