// fill.cu -- y = v
//
// y (n), fp32 or BF16      one thread per 4 elements      element-wise, so deterministic
#include "common.cuh"

extern "C" __global__ void fill(void* y, int half, float v, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    float all[4] = { v, v, v, v };
    put4(y, i, all, countOf(n, i), wide, half);
}
