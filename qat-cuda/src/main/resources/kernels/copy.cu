// copy.cu -- y = x, rounded to y's type (BF16: to the nearest, ties to even)
//
// x, y (n), each fp32 or BF16      one thread per 4 elements      element-wise, so deterministic
#include "common.cuh"

extern "C" __global__ void copy(void* y, int halfY, const void* x, int halfX, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float v[4];
    get4(v, x, i, count, wide, halfX);
    put4(y, i, v, count, wide, halfY);
}
