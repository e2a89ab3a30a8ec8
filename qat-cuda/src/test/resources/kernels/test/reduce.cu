// reduce.cu -- y_r = sum of row r, three ways
//
//   rowSums      one warp per row, lanes strided, xor tree          fixed order: the same bits every run
//   blockSums    one block per row, blockSum
//   warpSuffix   y_i = sum of x_j over j >= i within each 32, by __shfl_down_sync with a shrinking mask test
//
// x (R, C)   y (R)   fp32
#include "common.cuh"

extern "C" __global__ void rowSums(float* y, const float* x, int R, int C) {
    int r = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (r >= R) return;
    float sum = 0;
    for (int c = LANE; c < C; c += WARP) sum += x[(i64) r * C + c];
    sum = warpSum(sum);
    if (LANE == 0) y[r] = sum;
}

extern "C" __global__ void blockSums(float* y, const float* x, int acc, int C) {
    float sum = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += x[(i64) blockIdx.x * C + c];
    sum = blockSum(sum);
    float most = blockMax(sum);                 // every thread holds the same sum
    if (threadIdx.x == 0) put(&y[blockIdx.x], most, acc);
}

extern "C" __global__ void warpSuffix(float* y, const float* x) {
    float v = x[threadIdx.x];
    for (int d = 1; d < WARP; d *= 2) {
        float above = __shfl_down_sync(FULL, v, d);
        if (LANE + d < WARP) v += above;
    }
    y[threadIdx.x] = v;
}

// A histogram of signs and parities: votes and integer atomics.
extern "C" __global__ void votes(int* counts, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned negative = __ballot_sync(FULL, i < n && x[i] < 0);
    int any = __any_sync(FULL, i < n && x[i] > 1e6f), all = __all_sync(FULL, i >= n || x[i] == x[i]);
    if (LANE == 0) {
        atomicAdd(&counts[0], __popc(negative));
        atomicMax(&counts[1], any);
        atomicMin(&counts[2], all);
    }
}
