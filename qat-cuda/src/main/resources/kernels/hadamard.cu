// hadamard.cu -- y = x · (H ⊗ I) per `span` = size · apart channels, H the Sylvester-Hadamard matrix over √size (its own inverse)
//
//   for h = apart · (1, 2, 4 … size/2):  (a, b) → (a + b, a − b) for every pair (i, i + h);   then · norm, 1/√size
//   dx (+)= dy · (H ⊗ I): the same
//
// x, y (span · blocks) fp32; y may be x      acc: 0 writes, 1 adds
// One block per `span` channels, kept in shared memory between the rounds. Every sum has two terms, so deterministic.
#include "common.cuh"

#define LARGEST 8192

extern "C" __global__ void __launch_bounds__(256) hadamard(float* y, int acc, const float* x, float norm, int span, int apart, int wide) {
    __shared__ float row[LARGEST];
    i64 at = (i64) blockIdx.x * span;
    for (int i = 4 * threadIdx.x; i < span; i += 4 * blockDim.x) {
        float v[4];
        get4(v, x, at + i, span - i, wide);
        for (int k = 0; k < 4; k++) if (i + k < span) row[i + k] = v[k];
    }
    for (int h = apart; h < span; h *= 2) {
        __syncthreads();
        for (int p = threadIdx.x; p < span / 2; p += blockDim.x) {
            int i = p / h * 2 * h + p % h;
            float a = row[i], b = row[i + h];
            row[i] = a + b;
            row[i + h] = a - b;
        }
    }
    __syncthreads();
    for (int i = 4 * threadIdx.x; i < span; i += 4 * blockDim.x) {
        float v[4];
        for (int k = 0; k < 4; k++) v[k] = i + k < span ? row[i + k] * norm : 0;
        give4(y, at + i, v, span - i, wide, acc);
    }
}
