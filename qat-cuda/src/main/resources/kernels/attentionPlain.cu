// attentionPlain.cu -- attention.cu's formulas in fp32 throughout, for FP32 products and for heads that its tiles do not fit
//
// q, o, dy, dq (B·T, H·d)   k, v, dk, dv (B·T, K·d)   lse, delta (B, H, T)      fp32, o also BF16      d ≤ 256
// One block of 128 threads per 8 queries (keys in attentionPlainBackKV) of one head, against tiles of 16 of the other side: a
// thread has one of the 8 × 16 scores, and every 16th column of one row of the result, in registers.
// Deterministic: fixed order everywhere; one block sums dk and dv over all query heads. acc: 0 writes, 1 adds; a null gradient
// is skipped.
#include "common.cuh"

#define THREADS 128
#define ROWS 8
#define COLS 16
#define PITCH 257                   // of a row in shared memory: odd, so that 16 rows fall into different banks
#define EACH 16                     // columns of a thread: 256 / COLS

// rows from..from+count of a head, zeros past T
__device__ __forceinline__ void loadRows(float* tile, int count, const float* head, i64 stride, int from, int T, int d) {
    for (int r = threadIdx.x / COLS; r < count; r += THREADS / COLS)
        for (int c = threadIdx.x % COLS; c < d; c += COLS) tile[r * PITCH + c] = from + r < T ? head[(from + r) * stride + c] : 0;
}

__device__ __forceinline__ float dot(const float* a, const float* b, int d) {
    float sum = 0;
    for (int i = 0; i < d; i++) sum = fmaf(a[i], b[i], sum);
    return sum;
}

// acc[i] += Σ_j p[j] · tile[j][column i of this thread]
__device__ __forceinline__ void addRows(float (&acc)[EACH], const float* p, const float* tile, int d) {
    #pragma unroll
    for (int i = 0; i < EACH; i++) {
        int c = threadIdx.x % COLS + i * COLS;
        if (c < d) for (int j = 0; j < COLS; j++) acc[i] = fmaf(p[j], tile[j * PITCH + c], acc[i]);
    }
}

__device__ __forceinline__ void storeRow(float* row, int acc, const float (&a)[EACH], int d) {
    #pragma unroll
    for (int i = 0; i < EACH; i++) {
        int c = threadIdx.x % COLS + i * COLS;
        if (c < d) put(&row[c], a[i], acc);
    }
}

// over the 16 neighbours that share a row
__device__ __forceinline__ float rowMax(float v) {
    for (int x = COLS / 2; x > 0; x /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, x));
    return v;
}

extern "C" __global__ void __launch_bounds__(THREADS) attentionPlain(void* o, int half, float* lse, const float* q, const float* k,
                                                                     const float* v, int T, int H, int K, int d, float scale) {
    __shared__ float queries[ROWS * PITCH], other[COLS * PITCH], ps[ROWS][COLS];
    int h = blockIdx.y, b = blockIdx.z, q0 = blockIdx.x * ROWS, r = threadIdx.x / COLS, j = threadIdx.x % COLS;
    i64 qStride = (i64) H * d, kStride = (i64) K * d, qHead = b * T * qStride + h * d, kHead = b * T * kStride + h / (H / K) * d;
    loadRows(queries, ROWS, q + qHead, qStride, q0, T, d);

    float acc[EACH] = {}, max = -INF, sum = 0;
    for (int k0 = 0; k0 < q0 + ROWS && k0 < T; k0 += COLS) {
        __syncthreads();
        loadRows(other, COLS, k + kHead, kStride, k0, T, d);
        __syncthreads();
        float s = k0 + j <= q0 + r ? dot(queries + r * PITCH, other + j * PITCH, d) * scale : -INF;
        float top = fmaxf(max, rowMax(s)), shrink = expf(max - top), p = expf(s - top);
        max = top;
        sum = sum * shrink + lanesSum(p, COLS);
        for (int i = 0; i < EACH; i++) acc[i] *= shrink;
        ps[r][j] = p;
        __syncthreads();
        loadRows(other, COLS, v + kHead, kStride, k0, T, d);
        __syncthreads();
        addRows(acc, ps[r], other, d);
    }
    if (q0 + r >= T) return;
    #pragma unroll
    for (int i = 0; i < EACH; i++) {
        int c = j + i * COLS;
        if (c < d) put1(o, qHead + (q0 + r) * qStride + c, acc[i] / sum, half);
    }
    if (j == 0) lse[((i64) b * H + h) * T + q0 + r] = max + logf(sum);
}

// dq, and delta, which attentionPlainBackKV reads after this
extern "C" __global__ void __launch_bounds__(THREADS) attentionPlainBackQ(float* dq, int accQ, float* delta, const float* dy, const void* o, int half,
                                                                          const float* lse, const float* q, const float* k, const float* v,
                                                                          int T, int H, int K, int d, float scale) {
    __shared__ float queries[ROWS * PITCH], grads[ROWS * PITCH], other[COLS * PITCH], ds[ROWS][COLS];
    int h = blockIdx.y, b = blockIdx.z, q0 = blockIdx.x * ROWS, r = threadIdx.x / COLS, j = threadIdx.x % COLS;
    i64 qStride = (i64) H * d, kStride = (i64) K * d, qHead = b * T * qStride + h * d, kHead = b * T * kStride + h / (H / K) * d;
    i64 mine = qHead + (q0 + r) * qStride, stat = ((i64) b * H + h) * T + q0 + r;
    bool real = q0 + r < T;

    float dl = 0;
    if (real) for (int c = j; c < d; c += COLS) dl = fmaf(dy[mine + c], get1(o, mine + c, half), dl);
    dl = lanesSum(dl, COLS);
    if (real && j == 0) delta[stat] = dl;
    if (dq == nullptr) return;

    float acc[EACH] = {}, ls = real ? lse[stat] : 0;
    loadRows(queries, ROWS, q + qHead, qStride, q0, T, d);
    loadRows(grads, ROWS, dy + qHead, qStride, q0, T, d);
    for (int k0 = 0; k0 < q0 + ROWS && k0 < T; k0 += COLS) {
        bool seen = k0 + j <= q0 + r;
        __syncthreads();
        loadRows(other, COLS, v + kHead, kStride, k0, T, d);
        __syncthreads();
        float dp = dot(grads + r * PITCH, other + j * PITCH, d);
        __syncthreads();
        loadRows(other, COLS, k + kHead, kStride, k0, T, d);
        __syncthreads();
        float s = dot(queries + r * PITCH, other + j * PITCH, d) * scale;
        ds[r][j] = seen ? expf(s - ls) * (dp - dl) * scale : 0;
        __syncthreads();
        addRows(acc, ds[r], other, d);
    }
    if (real) storeRow(dq + mine, accQ, acc, d);
}

// dk and dv: keys in rows and queries in columns
extern "C" __global__ void __launch_bounds__(THREADS) attentionPlainBackKV(float* dk, int accK, float* dv, int accV, const float* delta,
                                                                           const float* dy, const float* lse, const float* q, const float* k,
                                                                           const float* v, int T, int H, int K, int d, float scale) {
    __shared__ float keys[ROWS * PITCH], values[ROWS * PITCH], other[COLS * PITCH], ps[ROWS][COLS], ds[ROWS][COLS];
    int kh = blockIdx.y, b = blockIdx.z, k0 = blockIdx.x * ROWS, r = threadIdx.x / COLS, j = threadIdx.x % COLS;
    i64 qStride = (i64) H * d, kStride = (i64) K * d, kHead = b * T * kStride + kh * d;
    loadRows(keys, ROWS, k + kHead, kStride, k0, T, d);
    loadRows(values, ROWS, v + kHead, kStride, k0, T, d);

    float ka[EACH] = {}, va[EACH] = {};
    for (int h = kh * (H / K); h < (kh + 1) * (H / K); h++) {
        i64 qHead = b * T * qStride + h * d, stats = ((i64) b * H + h) * T;
        for (int q0 = k0 / COLS * COLS; q0 < T; q0 += COLS) {
            bool seen = q0 + j < T && k0 + r <= q0 + j;
            float ls = seen ? lse[stats + q0 + j] : 0, dl = seen ? delta[stats + q0 + j] : 0;
            __syncthreads();
            loadRows(other, COLS, q + qHead, qStride, q0, T, d);
            __syncthreads();
            float p = seen ? expf(dot(keys + r * PITCH, other + j * PITCH, d) * scale - ls) : 0;
            __syncthreads();
            loadRows(other, COLS, dy + qHead, qStride, q0, T, d);
            __syncthreads();
            float dp = dot(values + r * PITCH, other + j * PITCH, d);
            ps[r][j] = p;
            ds[r][j] = seen ? p * (dp - dl) * scale : 0;
            __syncthreads();
            addRows(va, ps[r], other, d);
            __syncthreads();
            loadRows(other, COLS, q + qHead, qStride, q0, T, d);
            __syncthreads();
            addRows(ka, ds[r], other, d);
        }
    }
    if (k0 + r >= T) return;
    i64 mine = kHead + (k0 + r) * kStride;
    if (dk) storeRow(dk + mine, accK, ka, d);
    if (dv) storeRow(dv + mine, accV, va, d);
}
