// linear.cu -- what surrounds the products of cuBLAS
//
//   linear           y_n = bias + plus_n: what the product is then added to     y, plus (N, O)  bias (O); either may be null
//   linearBackBias   dbias (+)= Σ_n dy_n                                        dy (N, O) fp32 or BF16
//
// linear: one block per row. linearBackBias: a block of 8 × 32 threads per 32 columns and per slab of rows; the sums of the
// slabs (gridDim.y, O) are added up by a second launch of the same kernel with one slab. Fixed order, so deterministic.
// acc: 0 writes, 1 adds.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) linear(float* y, const float* bias, const float* plus, int O, int wide) {
    i64 row = (i64) blockIdx.x * O;
    for (int o = 4 * threadIdx.x; o < O; o += 4 * blockDim.x) {
        float v[4] = {}, b[4] = {};
        if (plus) get4(v, plus, row + o, O - o, wide);
        if (bias) get4(b, bias, o, O - o, wide);
        for (int k = 0; k < 4; k++) v[k] += b[k];
        put4(y, row + o, v, O - o, wide);
    }
}

extern "C" __global__ void __launch_bounds__(256) linearBackBias(float* dbias, int acc, const void* dy, int half, i64 N, int O, i64 span) {
    __shared__ float part[8][32];
    int lane = threadIdx.x % 32, way = threadIdx.x / 32, o = blockIdx.x * 32 + lane;
    i64 from = blockIdx.y * span, to = from + span < N ? from + span : N;
    float total = 0;
    if (o < O) for (i64 n = from + way; n < to; n += 8) total += get1(dy, n * O + o, half);
    part[way][lane] = total;
    __syncthreads();
    if (way > 0 || o >= O) return;
    for (int w = 1; w < 8; w++) total += part[w][lane];
    put(&dbias[(i64) blockIdx.y * O + o], total, acc);
}
