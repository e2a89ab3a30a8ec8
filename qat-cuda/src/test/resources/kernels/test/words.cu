// words.cu -- uses every instruction of common.cuh and its plain words, so that nvcc, NVRTC and the stand-in compile each
#include "common.cuh"

// the words for four elements at a time, for groups of lanes, and for random numbers
__device__ void fours(float* x, bf16* h, int n) {
    i64 i = 4 * globalThread();
    int count = countOf(n, i);
    float v[4], u[4] = {get1(h, LANE, 1), lanesSum(x[LANE], 8), 0, (float) blockMin(groupOf(8))};
    get4(v, h, i, count, 1, 1);
    unsigned word[4];
    philox(word, n, 2, i, 3, 4);
    for (int k = 0; k < 4; k++) u[k] = clamp(least(v[k], u[k]), most(u[k], 0), unit(word[k]));
    give4(x, i, u, count, 1, 1);
    put4(h, i, u, count, 1, 1);
    put1(h, i, RowSum(x, n, 1).sum, 1);
}

extern "C" __global__ void words(float* x, bf16* h, int n) {
    extern __shared__ __align__(16) unsigned char shared[];
    char* mine = (char*) shared + 16 * threadIdx.x;
    i64 at = (i64) threadIdx.x * 4;
    float v = blockSum(threadIdx.x < n ? x[threadIdx.x] : 0) + blockMax(x[LANE]) + warpSum(x[at]) + warpMax(x[at]) + warpMin(x[at]);
    float4 q = load4nc(x + at), p = load4(x + at);
    store4(x + at, make_float4(q.x + p.x, q.y, q.z, q.w));
    uint4 w = load16nc(h + 8 * threadIdx.x), u = load16(h + 8 * threadIdx.x);
    store16(h + 8 * threadIdx.x, make_uint4(w.x ^ u.y, packBf16(v, low(w.y)), packBf16(high(w.z), v), w.w));
    cpAsync16(mine, x + at, threadIdx.x < n);
    cpAsyncCommit();
    cpAsyncWait<0>();
    __syncthreads();
    unsigned a[4], t[4];
    ldmatrix4(a, mine);
    ldmatrix4t(t, mine);
    unsigned b[2] = {t[0], t[3]};
    float d[4] = {0, 0, 0, toFloat(toBf16(v))};
    mma16816(d, a, b);
    put(&x[threadIdx.x], d[0] + d[1] + d[2] + d[3], 1);
    fours(x, h, n);
}
