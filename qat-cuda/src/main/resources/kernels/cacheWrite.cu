// cacheWrite.cu -- cache[b, positions_b] = x_b
//
// cache (B, Tmax, C)   x (B, C) fp32   positions (B)      one block per sequence      a position outside the cache is skipped
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) cacheWrite(float* cache, const float* x, const int* positions, int Tmax, int C, int wide) {
    i64 b = blockIdx.x, t = positions[b];
    if (t < 0 || t >= Tmax) return;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, b * C + c, C - c, wide);
        put4(cache, (b * Tmax + t) * C + c, v, C - c, wide);
    }
}
