// product.cu -- C = A B^T on tensor cores, 64 x 64 outputs per block of four warps, k in steps of 32, two steps in flight
//
// A (M, K) bf16   B (N, K) bf16   C (M, N) fp32   M, N multiples of 64, K of 32   sums fp32, k ascending
//
// Warp w has rows 16w .. 16w + 15 of the tile and all 64 columns: eight mma per 16 of k. The steps come by cp.async into
// two halves of dynamic shared memory (rows of 32 values and 8 of padding, so that ldmatrix meets no bank twice).
// LATE leaves out the wait for a step's copies, UNGUARDED the barrier that keeps a half until all have read it.
#include "common.cuh"

#define STEP 32
#define ROW (STEP + 8)
#define HALF (128 * ROW)                        // values of one half: 64 rows of A, 64 of B

__device__ __forceinline__ void fetch(bf16* half, const bf16* A, const bf16* B, int K, int k) {
    for (int i = threadIdx.x; i < 128 * STEP / 8; i += blockDim.x) {
        int row = i / (STEP / 8), at = i % (STEP / 8) * 8;
        const bf16* from = row < 64 ? A + (i64) row * K : B + (i64) (row - 64) * K;
        cpAsync16(half + row * ROW + at, from + k + at, k < K);
    }
    cpAsyncCommit();
}

extern "C" __global__ void __launch_bounds__(128) product(float* C, const bf16* A, const bf16* B, int N, int K) {
    extern __shared__ __align__(16) bf16 shared[];
    A += (i64) blockIdx.y * 64 * K;
    B += (i64) blockIdx.x * 64 * K;
    int warp = threadIdx.x / WARP;
    float d[8][4] = {};
    fetch(shared, A, B, K, 0);
    for (int k = 0, s = 0; k < K; k += STEP, s ^= 1) {
        const bf16* half = shared + s * HALF;
        fetch(shared + (s ^ 1) * HALF, A, B, K, k + STEP < K ? k + STEP : k);
#ifndef LATE
        cpAsyncWait<1>();
#endif
        __syncthreads();
        for (int kk = 0; kk < STEP; kk += 16) {
            unsigned a[4];
            ldmatrix4(a, half + (warp * 16 + LANE % 16) * ROW + kk + LANE / 16 * 8);
            for (int j = 0; j < 4; j++) {       // two columns' fragments at once: rows of B are columns of B^T
                unsigned b[4];
                ldmatrix4(b, half + (64 + j * 16 + LANE % 8 + LANE / 16 * 8) * ROW + kk + LANE / 8 % 2 * 8);
                unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
                mma16816(d[2 * j], a, b0);
                mma16816(d[2 * j + 1], a, b1);
            }
        }
#ifndef UNGUARDED
        __syncthreads();
#endif
    }
    float* out = C + ((i64) blockIdx.y * 64 + warp * 16 + LANE / 4) * N + blockIdx.x * 64 + LANE % 4 * 2;
    for (int j = 0; j < 8; j++) {
        *(float2*) (out + 8 * j) = make_float2(d[j][0], d[j][1]);
        *(float2*) (out + 8 * j + (i64) 8 * N) = make_float2(d[j][2], d[j][3]);
    }
}

// C (16, 8) = A (16, 16) B (16, 8), B row-major through the transposing ldmatrix: one warp.
extern "C" __global__ void rowMajorB(float* C, const bf16* A, const bf16* B) {
    __shared__ __align__(16) bf16 a[16][16], b[16][16];
    for (int i = LANE; i < 256; i += WARP) {
        a[i / 16][i % 16] = A[i];
        b[i / 16][i % 16] = i % 16 < 8 ? B[i / 16 * 8 + i % 16] : 0;
    }
    __syncwarp();
    unsigned fa[4], fb[4];
    float d[4] = {};
    ldmatrix4(fa, &a[LANE % 16][LANE / 16 * 8]);
    ldmatrix4t(fb, &b[LANE % 16][LANE / 16 * 8]);
    unsigned left[2] = {fb[0], fb[1]};
    mma16816(d, fa, left);
    for (int i = 0; i < 4; i++) C[(LANE / 4 + i / 2 * 8) * 8 + LANE % 4 * 2 + i % 2] = d[i];
}
