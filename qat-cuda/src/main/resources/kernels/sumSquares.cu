// sumSquares.cu -- y = 0·y + Σ x²: once no finite number, y is NaN for good
//
// x (n), y (1), part (gridDim) fp32
// Two phases in a fixed order, so deterministic: every block sums a contiguous part of x, then one block sums the parts.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) sumSquares(float* part, const float* x, i64 n, i64 span, int wide) {
    i64 from = blockIdx.x * span, to = from + span < n ? from + span : n;
    float total = 0;
    for (i64 i = from + 4 * threadIdx.x; i < to; i += 4 * blockDim.x) {
        float v[4];
        get4(v, x, i, countOf(to, i), wide);
        for (int k = 0; k < 4; k++) total += v[k] * v[k];
    }
    total = blockSum(total);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(256) sumSquaresParts(float* y, const float* part, int parts) {
    float total = 0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) total += part[i];
    total = blockSum(total);
    if (threadIdx.x == 0) *y = 0 * *y + total;
}
