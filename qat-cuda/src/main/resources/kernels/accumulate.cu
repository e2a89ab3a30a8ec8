// accumulate.cu -- dx (+)= s · dy, the backward of add and scale
//
// dx, dy (n) fp32; dx may be dy      one thread per 4 elements      element-wise, so deterministic      acc: 0 writes, 1 adds
#include "common.cuh"

extern "C" __global__ void accumulate(float* dx, int acc, const float* dy, float s, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float v[4];
    get4(v, dy, i, count, wide);
    for (int k = 0; k < 4; k++) v[k] *= s;
    give4(dx, i, v, count, wide, acc);
}
