// add.cu -- y = a + b
//
// a, b, y (n) fp32; y may be a or b      one thread per 4 elements      element-wise, so deterministic
#include "common.cuh"

extern "C" __global__ void add(float* y, const float* a, const float* b, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float u[4], v[4];
    get4(u, a, i, count, wide);
    get4(v, b, i, count, wide);
    for (int k = 0; k < 4; k++) u[k] += v[k];
    put4(y, i, u, count, wide);
}
