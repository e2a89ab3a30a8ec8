// mse.cu -- loss = mean (x − target)²      dx (+)= 2 (x − target) / n
//
// x, target, dx (n), loss (1), part (gridDim) fp32      acc: 0 writes, 1 adds; a null dx is skipped; dx may be x
// Two phases in a fixed order, so deterministic: every block sums a contiguous part, then one block sums the parts.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) mse(float* part, float* dx, int acc, const float* x, const float* target,
                                                      float twoOverN, i64 n, i64 span, int wide) {
    i64 from = blockIdx.x * span, to = from + span < n ? from + span : n;
    float total = 0;
    for (i64 i = from + 4 * threadIdx.x; i < to; i += 4 * blockDim.x) {
        int count = countOf(to, i);
        float v[4], t[4];
        get4(v, x, i, count, wide);
        get4(t, target, i, count, wide);
        for (int k = 0; k < 4; k++) {
            float gap = v[k] - t[k];
            total += gap * gap;
            v[k] = gap * twoOverN;
        }
        if (dx) give4(dx, i, v, count, wide, acc);
    }
    total = blockSum(total);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(256) mseParts(float* loss, const float* part, int parts, i64 n) {
    float total = 0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) total += part[i];
    total = blockSum(total);
    if (threadIdx.x == 0) *loss = total / n;
}
