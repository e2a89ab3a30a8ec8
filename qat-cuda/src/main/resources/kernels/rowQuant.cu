// rowQuant.cu -- min-max fake quantization with one scale per row (LLM-QAT, arXiv 2305.17888, constants of its official code)
//
//   symmetric    s = top / (max|x| + 1e-6),  top = 2^(b−1) − 1;    y = rint(x·s) / (s + 1e-6)
//   asymmetric   r = max x − min x + 1e-8,   top = 2^b − 1;        y = rint((x − min)/r · top) / top · r + min
//   dx (+)= dy, with a window only where |x| < 2
//
// x, y (N, C) fp32 or BF16   dx, dy (N, C) fp32; dx may be dy      acc: 0 writes, 1 adds
// rowQuant: one block per row; extrema have no order to keep and the last product and sum stay apart (__fmul_rn, __fadd_rn):
// the same bits as the reference. rowQuantBack: one thread per 4 elements, element-wise.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(512) rowQuant(void* y, int halfY, const void* x, int halfX, int symmetric, float top, int C, int wide) {
    i64 row = (i64) blockIdx.x * C;
    float low = INF, high = -INF;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, row + c, C - c, wide, halfX);
        for (int k = 0; k < 4; k++) if (c + k < C) low = fminf(low, v[k]), high = fmaxf(high, v[k]);
    }
    low = -blockMax(-low);
    high = blockMax(high);
    float s = top / (fmaxf(-low, high) + 1e-6f), range = high - low + 1e-8f;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, row + c, C - c, wide, halfX);
        for (int k = 0; k < 4; k++) v[k] = symmetric ? rintf(v[k] * s) / (s + 1e-6f)
                                                     : __fadd_rn(__fmul_rn(rintf((v[k] - low) / range * top) / top, range), low);
        put4(y, row + c, v, C - c, wide, halfY);
    }
}

extern "C" __global__ void rowQuantBack(float* dx, int acc, const float* dy, const void* x, int halfX, int window, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float d[4], v[4] = {};
    get4(d, dy, i, count, wide);
    if (window) get4(v, x, i, count, wide, halfX);
    for (int k = 0; k < 4; k++) if (!(fabsf(v[k]) < 2)) d[k] *= 0;
    give4(dx, i, d, count, wide, acc);
}
