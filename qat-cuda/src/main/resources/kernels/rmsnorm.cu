// rmsnorm.cu -- y = x · gain · rstd,  rstd = 1 / √(mean x² + eps)
//
//   dx    (+)= rstd · (gain·dy − x · rstd² · mean(gain·dy·x))
//   dgain (+)= Σ_m dy · x · rstd
//
// x, y, dx, dy (M, C)   gain, dgain (C)   rstd (M)      fp32, y also BF16 for the product that reads it      acc: 0 writes, 1 adds
// rmsnorm, rmsnormBack: one block per row. rmsnormBackGain: a block of 8 × 32 threads per 32 columns and per slab of rows,
// the slabs' sums (gridDim.y, C) added up by rmsnormBackGainParts. Fixed order, so deterministic.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(512) rmsnorm(void* y, int half, float* rstd, const float* x, const float* gain, float eps,
                                                          int C, int wide) {
    i64 row = (i64) blockIdx.x * C;
    float squares = 0;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, row + c, C - c, wide);
        for (int k = 0; k < 4; k++) squares += v[k] * v[k];
    }
    float r = 1 / sqrtf(blockSum(squares) / C + eps);
    if (threadIdx.x == 0) rstd[blockIdx.x] = r;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4], g[4];
        get4(v, x, row + c, C - c, wide);
        get4(g, gain, c, C - c, wide);
        for (int k = 0; k < 4; k++) v[k] = v[k] * r * g[k];
        put4(y, row + c, v, C - c, wide, half);
    }
}

extern "C" __global__ void __launch_bounds__(512) rmsnormBack(float* dx, int acc, const float* dy, const float* x, const float* gain,
                                                              const float* rstd, int C, int wide) {
    i64 row = (i64) blockIdx.x * C;
    float dot = 0;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4], g[4], d[4];
        get4(v, x, row + c, C - c, wide);
        get4(g, gain, c, C - c, wide);
        get4(d, dy, row + c, C - c, wide);
        for (int k = 0; k < 4; k++) dot += g[k] * d[k] * v[k];
    }
    float r = rstd[blockIdx.x], pull = r * r * blockSum(dot) / C;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4], g[4], d[4];
        get4(v, x, row + c, C - c, wide);
        get4(g, gain, c, C - c, wide);
        get4(d, dy, row + c, C - c, wide);
        for (int k = 0; k < 4; k++) v[k] = r * (g[k] * d[k] - v[k] * pull);
        give4(dx, row + c, v, C - c, wide, acc);
    }
}

extern "C" __global__ void __launch_bounds__(256) rmsnormBackGain(float* dgain, int acc, const float* dy, const float* x, const float* rstd,
                                                                  i64 M, int C, i64 span) {
    __shared__ float part[8][32];
    int lane = threadIdx.x % 32, way = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
    i64 from = blockIdx.y * span, to = from + span < M ? from + span : M;
    float total = 0;
    if (c < C) for (i64 m = from + way; m < to; m += 8) total += dy[m * C + c] * x[m * C + c] * rstd[m];
    part[way][lane] = total;
    __syncthreads();
    if (way > 0 || c >= C) return;
    for (int w = 1; w < 8; w++) total += part[w][lane];
    put(&dgain[(i64) blockIdx.y * C + c], total, acc);
}

extern "C" __global__ void __launch_bounds__(256) rmsnormBackGainParts(float* dgain, int acc, const float* part, int parts, int C) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float total = 0;
    for (int p = 0; p < parts; p++) total += part[(i64) p * C + c];
    put(&dgain[c], total, acc);
}
