// channelScale.cu -- y_nj = x_nj · e^(power · tau_m),  m = (j / (run · repeat)) · run + j mod run: the scale that channel j takes
//
//   dx (+)= dy · e^(power · tau_m)                                          the same on dy
//   dtau_m (+)= power · e^(power · tau_m) · Σ_n Σ_{j of m} dy_nj · x_nj
//
// x, y, dx, dy (N, C)   tau, dtau (C / repeat)   all fp32      acc: 0 writes, 1 adds
// channelScale: one block per row. channelScaleBackParts: a block of 8 × 32 threads per 32 columns and per slab of rows, sums
// of dy · x (gridDim.y, C) that channelScaleBackTau adds up, one thread per scale. Fixed order, so deterministic.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) channelScale(float* y, int acc, const float* x, const float* tau, int C, int run, int repeat,
                                                               float power, int wide) {
    i64 row = (i64) blockIdx.x * C;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, row + c, C - c, wide);
        for (int k = 0; k < 4; k++) {
            int j = c + k < C ? c + k : C - 1;
            v[k] *= expf(power * tau[j / (run * repeat) * run + j % run]);
        }
        give4(y, row + c, v, C - c, wide, acc);
    }
}

extern "C" __global__ void __launch_bounds__(256) channelScaleBackParts(float* part, const float* dy, const float* x, i64 N, int C, i64 span) {
    __shared__ float sums[8][32];
    int lane = threadIdx.x % 32, way = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
    i64 from = blockIdx.y * span, to = from + span < N ? from + span : N;
    float total = 0;
    if (c < C) for (i64 n = from + way; n < to; n += 8) total += dy[n * C + c] * x[n * C + c];
    sums[way][lane] = total;
    __syncthreads();
    if (way > 0 || c >= C) return;
    for (int w = 1; w < 8; w++) total += sums[w][lane];
    part[(i64) blockIdx.y * C + c] = total;
}

extern "C" __global__ void __launch_bounds__(256) channelScaleBackTau(float* dtau, int acc, const float* part, int parts, int C, const float* tau,
                                                                      int scales, int run, int repeat, float power) {
    int m = blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= scales) return;
    float total = 0;
    for (int r = 0; r < repeat; r++) {
        int c = (m / run * repeat + r) * run + m % run;
        for (int p = 0; p < parts; p++) total += part[(i64) p * C + c];
    }
    put(&dtau[m], power * expf(power * tau[m]) * total, acc);
}
