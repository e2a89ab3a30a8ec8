// scale.cu -- y = s · x
//
// x, y (n) fp32; y may be x      one thread per 4 elements      element-wise, so deterministic
#include "common.cuh"

extern "C" __global__ void scale(float* y, const float* x, float s, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float v[4];
    get4(v, x, i, count, wide);
    for (int k = 0; k < 4; k++) v[k] *= s;
    put4(y, i, v, count, wide);
}
