// rmsScale.cu -- y_n = plus_n + u_n · rms_n^power,  rms_n = √(mean x_n² + eps)
//
//   du_n (+)= dy_n · rms_n^power
//   dx_n (+)= x_n · power · rms_n^(power − 2) / C · Σ dy_n · u_n
//
// y, u, plus, du, dy (N, U)   x, dx (N, C)   all fp32   plus, du, dx may be null   power 1 or −1      acc: 0 writes, 1 adds
// One block per row. Fixed order, so deterministic.
#include "common.cuh"

// rms²
__device__ __forceinline__ float squareOf(const float* x, i64 row, float eps, int C, int wide) {
    float squares = 0;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, row + c, C - c, wide);
        for (int k = 0; k < 4; k++) squares += v[k] * v[k];
    }
    return blockSum(squares) / C + eps;
}

extern "C" __global__ void __launch_bounds__(512) rmsScale(float* y, const float* u, const float* x, const float* plus, float eps, int power, int U, int C,
                                                           int wideU, int wideC) {
    float square = squareOf(x, (i64) blockIdx.x * C, eps, C, wideC), f = power > 0 ? sqrtf(square) : 1 / sqrtf(square);
    i64 row = (i64) blockIdx.x * U;
    for (int c = 4 * threadIdx.x; c < U; c += 4 * blockDim.x) {
        float v[4], p[4] = {};
        get4(v, u, row + c, U - c, wideU);
        if (plus) get4(p, plus, row + c, U - c, wideU);
        for (int k = 0; k < 4; k++) v[k] = v[k] * f + p[k];
        put4(y, row + c, v, U - c, wideU);
    }
}

extern "C" __global__ void __launch_bounds__(512) rmsScaleBack(float* du, int accU, float* dx, int accX, const float* dy, const float* u, const float* x,
                                                               float eps, int power, int U, int C, int wideU, int wideC) {
    i64 at = (i64) blockIdx.x * C, row = (i64) blockIdx.x * U;
    float square = squareOf(x, at, eps, C, wideC), f = power > 0 ? sqrtf(square) : 1 / sqrtf(square), dot = 0;
    for (int c = 4 * threadIdx.x; c < U; c += 4 * blockDim.x) {
        float d[4], v[4];
        get4(d, dy, row + c, U - c, wideU);
        get4(v, u, row + c, U - c, wideU);
        for (int k = 0; k < 4; k++) dot += d[k] * v[k], d[k] *= f;
        if (du) give4(du, row + c, d, U - c, wideU, accU);
    }
    float pull = power * f / square / C * blockSum(dot);
    if (!dx) return;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, at + c, C - c, wideC);
        for (int k = 0; k < 4; k++) v[k] *= pull;
        give4(dx, at + c, v, C - c, wideC, accX);
    }
}
