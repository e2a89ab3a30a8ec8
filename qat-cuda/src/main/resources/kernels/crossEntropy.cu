// crossEntropy.cu -- loss and slope of a chunk of logits, between the products x wᵀ before and slope · w, slopeᵀ · x after
//
//   loss_n  = log Σ_v exp(z_v) − z[target]                                  0 where target < 0, NaN where target ≥ V
//   slope_v = weight · (exp(z_v) / Σ exp(z) − 1[v = target])                0 where target < 0
//
// z (rows, V) fp32 → slope in place: fp32, or (half) BF16 in the first half of each row   loss (rows)   targets (rows)
// One block per row: one pass for maximum and sum, one for the slope (if `back`).  Fixed order, so deterministic.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(512) crossEntropy(float* loss, float* logits, const int* targets, int V, float weight,
                                                               int back, int half, int wide) {
    float* z = logits + (i64) blockIdx.x * V;
    int target = targets[blockIdx.x];
    RowSum row(z, V, wide);
    float logSum = logf(row.sum);
    if (threadIdx.x == 0) loss[blockIdx.x] = target < 0 ? 0 : target >= V ? NOT_A_NUMBER : logSum - (z[target] - row.max);
    if (!back) return;
    __syncthreads();                                       // z[target] is read before it is overwritten
    float share = target < 0 ? 0 : weight;
    for (int from = 0; from < V; from += 4 * blockDim.x) {
        int i = from + 4 * threadIdx.x;
        float v[4];
        if (i < V) get4(v, z, i, V - i, wide);
        if (half) __syncthreads();                         // BF16 lands on fp32 of this stretch, or of an earlier one
        for (int k = 0; k < 4; k++) v[k] = share == 0 ? 0 : share * (expf(v[k] - row.max - logSum) - (i + k == target));
        if (i < V) put4(z, i, v, V - i, wide, half);
    }
}
