// reactivate.cu -- Tequila (arXiv 2509.23809): the weights of the dead zone D become a bias of their row
//
//   bias_o = plus_o + Σ_{i in D} epsilon · v_oi     dead_o = |D|     D = {i: not |w_oi| ≥ edge}     v = w or, with sign, ±1, 1 at 0
//   dw (+)= epsilon · dy_o, with sign dy_o, in D, else 0     depsilon (+)= dy_o · Σ_{i in D} v_oi, or each: dy_o · v_oi in D, else 0
//
// w (O, I) fp32 or BF16   scale, edge (groups of G), edge null where the scale is learned (trits.cuh)   plus (O) or null
// bias, dead, dy (O)   epsilon, depsilon (O), or (O, I) where each      acc: 0 writes, 1 adds; a null gradient is skipped
// One block per row, one element a thread at a time (a group may end anywhere). Fixed-order sums.
#include "trits.cuh"

// NaN where the weight is
__device__ __forceinline__ float counts(float w, int sign) { return sign ? w >= 0 ? 1 : w < 0 ? -1 : w : w; }

extern "C" __global__ void __launch_bounds__(512) reactivate(float* bias, float* dead, const float* plus, const void* w, int halfW, const float* scale,
                                                             const float* edge, const float* epsilon, int each, int sign, float share, i64 I, i64 G) {
    i64 from = blockIdx.x * I;
    float sum = 0, count = 0;
    i64 first = from + threadIdx.x, group = first / G, within = first % G;   // one division, since it is a call that spills in a loop
    for (i64 i = first; i < from + I; i += blockDim.x, within += blockDim.x) {
        for (; within >= G; within -= G) group++;
        float v = get1(w, i, halfW);
        if (!Group(scale, edge, group, share).dead(v)) continue;
        v = counts(v, sign);
        sum += each ? epsilon[i] * v : v;
        count++;
    }
    sum = blockSum(sum), count = blockSum(count);
    if (threadIdx.x > 0) return;
    float b = each ? sum : sum * epsilon[blockIdx.x];
    bias[blockIdx.x] = plus ? plus[blockIdx.x] + b : b;
    dead[blockIdx.x] = count;
}

extern "C" __global__ void __launch_bounds__(512) reactivateBack(float* dw, int accW, float* depsilon, int accEpsilon, const float* dy, const void* w,
                                                                 int halfW, const float* scale, const float* edge, const float* epsilon, int each,
                                                                 int sign, float share, i64 I, i64 G) {
    i64 from = blockIdx.x * I;
    float d = dy[blockIdx.x], sum = 0;
    i64 first = from + threadIdx.x, group = first / G, within = first % G;
    for (i64 i = first; i < from + I; i += blockDim.x, within += blockDim.x) {
        for (; within >= G; within -= G) group++;
        float v = get1(w, i, halfW);
        bool dead = Group(scale, edge, group, share).dead(v);
        v = counts(v, sign);
        if (dead) sum += v;
        if (dw) put(&dw[i], !dead ? 0 : sign ? d : __fmul_rn(d, epsilon[each ? i : blockIdx.x]), accW);
        if (each && depsilon) put(&depsilon[i], dead ? __fmul_rn(d, v) : 0, accEpsilon);
    }
    if (each || !depsilon) return;
    sum = blockSum(sum);
    if (threadIdx.x == 0) put(&depsilon[blockIdx.x], d * sum, accEpsilon);
}
