// transpose.cu -- y = x^T through a 32 x 33 tile of shared memory (the odd column spreads the banks)
//
// x (R, C)   y (C, R)   fp32   a block of 256 threads per tile: thread t has column t % 32, rows t / 32 + 0, 8, 16, 24
//
// MUTANT leaves out the barrier between writing and reading the tile: the tests must see that.
#include "common.cuh"

#define TILE 32

extern "C" __global__ void __launch_bounds__(256) transpose(float* __restrict__ y, const float* __restrict__ x, int R, int C) {
    __shared__ float tile[TILE][TILE + 1];
    int t = threadIdx.x % TILE, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    for (int i = threadIdx.x / TILE; i < TILE; i += blockDim.x / TILE)
        if (row + i < R && column + t < C) tile[i][t] = x[(i64) (row + i) * C + column + t];
#ifndef MUTANT
    __syncthreads();
#endif
    for (int i = threadIdx.x / TILE; i < TILE; i += blockDim.x / TILE)
        if (column + i < C && row + t < R) y[(i64) (column + i) * R + row + t] = tile[t][i];
}
