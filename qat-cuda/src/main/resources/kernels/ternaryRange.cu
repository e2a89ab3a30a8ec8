// ternaryRange.cu -- the scale of every group of ternary weights and the edge of its dead zone
//
//   0 absmean   scale = mean |w|                          edge = scale / 2
//   1 TWN       edge  = ¾ mean |w|                        scale = mean of |w| where |w| ≥ edge, 0 where none is
//   2 median    scale = lower median of |w|               edge = scale / 2
//   3 quads     scale = Σ three largest |w| of every four / (¾ G)      edge = 0
//
// w (groups · G) fp32 or BF16   scale, edge (groups) fp32
// One block per group; fixed-order sums. The median is found bit by bit from the highest: how many lie below decides a bit.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(512) ternaryRange(float* scale, float* edge, const void* w, int halfW, int rule, i64 G, int wide) {
    i64 from = blockIdx.x * G, to = from + G;
    float sum = 0;
    for (i64 i = from + 4 * threadIdx.x; i < to; i += 4 * blockDim.x) {
        float v[4], least = INF, part = 0;
        get4(v, w, i, countOf(to, i), wide, halfW);
        for (int k = 0; k < 4; k++) part += fabsf(v[k]), least = fminf(least, fabsf(v[k]));
        sum += rule == 3 ? part - least : part;
    }
    float mean = blockSum(sum) / (rule == 3 ? 0.75f * G : G), s = mean, e = rule == 3 ? 0 : (rule == 1 ? 0.75f : 0.5f) * mean;
    if (rule == 1) {
        float part = 0, count = 0;
        for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) {
            float v = fabsf(get1(w, i, halfW));
            if (v >= e) part += v, count++;
        }
        part = blockSum(part), count = blockSum(count);
        s = count > 0 ? part / count : 0;
    }
    if (rule == 2) {
        int found = 0, wanted = (int) ((G - 1) / 2);
        for (int bit = 30; bit >= 0; bit--) {
            int candidate = found | 1 << bit;
            if (candidate > 0x7f800000) continue;
            float below = 0;
            for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) below += fabsf(get1(w, i, halfW)) < __int_as_float(candidate);
            if (blockSum(below) <= wanted) found = candidate;
        }
        s = __int_as_float(found), e = 0.5f * s;
    }
    if (threadIdx.x > 0) return;
    scale[blockIdx.x] = s;
    edge[blockIdx.x] = e;
}
