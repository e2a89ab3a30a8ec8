// embed.cu -- y_n = table[ids_n]      dtable[v] (+)= Σ_{n: ids_n = v} dy_n, in order of n
//
// y, dy (N, C) fp32   table (V, C) fp32 or BF16   dtable (V, C) fp32   ids (N)
// One block per row n. An id outside the table gives a row of NaNs, and no gradient.
// Deterministic without atomics: of all rows with the same id the first one's block adds them all up, in order; rows of
// dtable that no id names are not touched. acc: 0 writes, 1 adds.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) embed(float* y, const int* ids, const void* table, int half, int V, int C, int wide) {
    i64 n = blockIdx.x, id = ids[n];
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4] = { NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER };
        if (0 <= id && id < V) get4(v, table, id * C + c, C - c, wide, half);
        put4(y, n * C + c, v, C - c, wide);
    }
}

extern "C" __global__ void __launch_bounds__(256) embedBack(float* dtable, int acc, const float* dy, const int* ids, int N, int V, int C, int wide) {
    __shared__ int earlier;
    int n = blockIdx.x, id = ids[n];
    if (threadIdx.x == 0) earlier = 0;
    __syncthreads();
    for (int m = threadIdx.x; m < n; m += blockDim.x) if (ids[m] == id) earlier = 1;
    __syncthreads();
    if (earlier || id < 0 || id >= V) return;

    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float total[4] = {};
        for (int m = n; m < N; m++) {
            if (ids[m] != id) continue;
            float v[4];
            get4(v, dy, (i64) m * C + c, C - c, wide);
            for (int k = 0; k < 4; k++) total[k] += v[k];
        }
        give4(dtable, (i64) id * C + c, total, C - c, wide, acc);
    }
}
