// attention.cu -- causal grouped-query attention on tensor cores, forward and backward, without a T×T matrix in memory
//
//   s  = q kᵀ / √d  (key ≤ query)     p = exp(s − lse)     lse = log Σ exp(s)     o = p v
//
//   delta = Σ dy·o                    dv = pᵀ dy           dp  = dy vᵀ
//   ds = p · (dp − delta) / √d        dq = ds k            dk  = dsᵀ q
//
// q, o, dy, dq (B·T, H·d)   k, v, dk, dv (B·T, K·d)   lse, delta (B, H, T)      fp32 in memory (o also BF16, for the product that
// reads it), BF16 in the tiles, fp32 sums
// Query head h reads key/value head h / (H/K).  d ≤ D, the width of the tiles (32, 64, 96 or 128, a define); both multiples of 4.
//
// One block of 4 warps per 64 queries (attention, attentionBackQ) or 64 keys (attentionBackKV) of one head. A warp owns 16 of
// them, keeps its part of the result in registers and walks over tiles of the other side, which the block shares. Scores become
// the next product's left operand in registers, since an accumulator of m16n8k16 is laid out as one.
// Scores stay unscaled: one fused multiply-add brings a score and its row's maximum (or lse) to base 2, scale included, and the
// factor 1/√d of dq and dk is taken at their end. Only tiles that the diagonal crosses are masked, a warp's choice.
//
// Not done, on purpose: wgmma and TMA (sm_90 alone; mma.sync reaches about three fifths of an H100's tensor peak), and cp.async
// with two buffers (operands are fp32 in memory and are rounded on their way to the tile, which a copy cannot do; blocks that
// share a multiprocessor hide one another's loads instead). To be expected, by counting instructions and not yet measured: a
// third of an A100's peak forward and less backward, a fifth of an H100's; scripts/gpu-check measures it.
// Deterministic: one block sums dk and dv over all query heads and tiles in order. That costs a second s and dp (seven products
// instead of five) and saves every atomic. acc: 0 writes, 1 adds; a null gradient is skipped.
#include "common.cuh"

#ifndef D
#define D 128
#endif
#define THREADS 128
#define BLOCKS 3                    // of the forward that share a multiprocessor: they hide the loads behind one another
#define ROWS 64                     // queries or keys of a block, 16 per warp
#define STEP 32                     // keys or queries of the other side that the backward takes at a time
#define LOG2E 1.4426950408889634f   // e^x = 2^(x · LOG2E)
#define LN2 0.6931471805599453f

// A tile's row is C chunks of eight BF16; chunk c of row r lies at c ^ (r % 8), so that the eight rows that ldmatrix reads at
// once fall into different banks.
#define C (D <= 64 ? 8 : 16)

__device__ __forceinline__ uint4* chunk(uint4* tile, int row, int c) { return tile + row * C + (c ^ (row & 7)); }

// rows from..from+R of a head, rounded to BF16; rows past T and columns past d are zeros
template <int R> __device__ __forceinline__ void loadTile(uint4* tile, const float* head, i64 stride, int from, int T, int d) {
    #pragma unroll 1
    for (int i = threadIdx.x; i < R * (D / 8); i += THREADS) {
        int row = i / (D / 8), c = i % (D / 8);
        const float* x = head + (from + row) * stride + c * 8;
        bool inside = from + row < T;
        float4 a = inside && c * 8 < d ? load4nc(x) : make_float4(0, 0, 0, 0);
        float4 b = inside && c * 8 + 4 < d ? load4nc(x + 4) : make_float4(0, 0, 0, 0);
        *chunk(tile, row, c) = make_uint4(packBf16(a.x, a.y), packBf16(a.z, a.w), packBf16(b.x, b.y), packBf16(b.z, b.w));
    }
}

// left operand: rows row..row+16 and columns 16k..16k+16 of a tile
__device__ __forceinline__ void leftOperand(unsigned (&a)[4], uint4* tile, int row, int k) {
    ldmatrix4(a, chunk(tile, row + LANE % 16, 2 * k + LANE / 16));
}

// c (16, R) += a · tileᵀ for 16 columns of the tile, whose rows are the product's columns
template <int R> __device__ __forceinline__ void timesTransposed(float (&c)[R / 8][4], const unsigned (&a)[4], uint4* tile, int k) {
    #pragma unroll
    for (int n = 0; n < R / 16; n++) {
        unsigned b[4];
        ldmatrix4(b, chunk(tile, n * 16 + LANE / 16 * 8 + LANE % 8, 2 * k + LANE / 8 % 2));
        mma16816(c[2 * n], a, { b[0], b[1] });
        mma16816(c[2 * n + 1], a, { b[2], b[3] });
    }
}

// c (16, D) += p (16, R) · tile (R, D)
template <int R> __device__ __forceinline__ void times(float (&c)[D / 8][4], const float (&p)[R / 8][4], uint4* tile) {
    #pragma unroll
    for (int k = 0; k < R / 16; k++) {
        unsigned a[4] = { packBf16(p[2 * k][0], p[2 * k][1]), packBf16(p[2 * k][2], p[2 * k][3]),
                          packBf16(p[2 * k + 1][0], p[2 * k + 1][1]), packBf16(p[2 * k + 1][2], p[2 * k + 1][3]) };
        #pragma unroll
        for (int n = 0; n < D / 16; n++) {
            unsigned b[4];
            ldmatrix4t(b, chunk(tile, k * 16 + LANE / 8 % 2 * 8 + LANE % 8, 2 * n + LANE / 16));
            mma16816(c[2 * n], a, { b[0], b[1] });
            mma16816(c[2 * n + 1], a, { b[2], b[3] });
        }
    }
}

// element e of column tile n of an accumulator lies in this row and column of the warp's 16 rows
__device__ __forceinline__ int rowOf(int e) { return LANE / 4 + e / 2 * 8; }
__device__ __forceinline__ int colOf(int n, int e) { return n * 8 + LANE % 4 * 2 + e % 2; }

// over the four lanes that share an accumulator's row
__device__ __forceinline__ float quadMax(float v) {
    v = fmaxf(v, __shfl_xor_sync(FULL, v, 1));
    return fmaxf(v, __shfl_xor_sync(FULL, v, 2));
}
__device__ __forceinline__ float quadSum(float v) {
    v += __shfl_xor_sync(FULL, v, 1);
    return v + __shfl_xor_sync(FULL, v, 2);
}

// a gradient's 16 rows, times a factor
__device__ __forceinline__ void storeRows(float* head, int acc, const float (&c)[D / 8][4], float factor, i64 stride, int from, int T, int d) {
    #pragma unroll
    for (int n = 0; n < D / 8; n++) {
        #pragma unroll
        for (int e = 0; e < 4; e++) {
            int row = from + rowOf(e), col = colOf(n, e);
            if (row < T && col < d) put(&head[row * stride + col], c[n][e] * factor, acc);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention(void* o, int half, float* lse, const float* q, const float* k,
                                                                const float* v, int T, int H, int K, int d, float scale) {
    __shared__ uint4 keys[ROWS * C], values[ROWS * C];
    int h = blockIdx.y, b = blockIdx.z, q0 = (gridDim.x - 1 - blockIdx.x) * ROWS, mine = threadIdx.x / WARP * 16;    // long rows first
    i64 qStride = (i64) H * d, kStride = (i64) K * d, qHead = b * T * qStride + h * d, kHead = b * T * kStride + h / (H / K) * d;

    unsigned qa[D / 16][4];
    loadTile<ROWS>(keys, q + qHead, qStride, q0, T, d);
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < D / 16; i++) leftOperand(qa[i], keys, mine, i);

    float acc[D / 8][4] = {}, max[2] = { -INF, -INF }, sum[2] = { 0, 0 }, unit = scale * LOG2E;
    for (int k0 = 0; k0 < q0 + ROWS && k0 < T; k0 += ROWS) {
        __syncthreads();
        loadTile<ROWS>(keys, k + kHead, kStride, k0, T, d);
        loadTile<ROWS>(values, v + kHead, kStride, k0, T, d);
        __syncthreads();
        float s[ROWS / 8][4] = {};
        #pragma unroll
        for (int i = 0; i < D / 16; i++) timesTransposed<ROWS>(s, qa[i], keys, i);

        if (k0 + ROWS > q0 + mine) {
            #pragma unroll
            for (int n = 0; n < ROWS / 8; n++) {
                #pragma unroll
                for (int e = 0; e < 4; e++) if (k0 + colOf(n, e) > q0 + mine + rowOf(e)) s[n][e] = -INF;
            }
        }
        float top[2] = { max[0], max[1] };
        #pragma unroll
        for (int n = 0; n < ROWS / 8; n++) {
            #pragma unroll
            for (int e = 0; e < 4; e++) top[e / 2] = fmaxf(top[e / 2], s[n][e]);
        }
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            top[r] = quadMax(top[r]);
            float shrink = exp2f((max[r] - top[r]) * unit);
            max[r] = top[r];
            sum[r] *= shrink;
            #pragma unroll
            for (int n = 0; n < D / 8; n++) acc[n][2 * r] *= shrink, acc[n][2 * r + 1] *= shrink;
        }
        #pragma unroll
        for (int n = 0; n < ROWS / 8; n++) {
            #pragma unroll
            for (int e = 0; e < 4; e++) sum[e / 2] += s[n][e] = exp2f(fmaf(s[n][e], unit, -max[e / 2] * unit));
        }
        times<ROWS>(acc, s, values);
    }

    sum[0] = quadSum(sum[0]), sum[1] = quadSum(sum[1]);
    float share[2] = { 1 / sum[0], 1 / sum[1] };
    #pragma unroll
    for (int n = 0; n < D / 8; n++) {
        #pragma unroll
        for (int e = 0; e < 4; e++) {
            int row = q0 + mine + rowOf(e), col = colOf(n, e);
            if (row < T && col < d) put1(o, qHead + row * qStride + col, acc[n][e] * share[e / 2], half);
        }
    }
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = q0 + mine + rowOf(2 * r);
        if (LANE % 4 == 0 && row < T) lse[((i64) b * H + h) * T + row] = max[r] * scale + LN2 * log2f(sum[r]);
    }
}

// dq, and delta, which attentionBackKV reads after this
extern "C" __global__ void __launch_bounds__(THREADS) attentionBackQ(float* dq, int accQ, float* delta, const float* dy, const void* o, int half,
                                                                     const float* lse, const float* q, const float* k, const float* v,
                                                                     int T, int H, int K, int d, float scale) {
    __shared__ uint4 tiles[2][STEP * C];                           // keys and their values; before that, these 64 queries
    int h = blockIdx.y, b = blockIdx.z, q0 = (gridDim.x - 1 - blockIdx.x) * ROWS, mine = threadIdx.x / WARP * 16;
    i64 qStride = (i64) H * d, kStride = (i64) K * d, qHead = b * T * qStride + h * d, kHead = b * T * kStride + h / (H / K) * d;
    i64 stats = ((i64) b * H + h) * T;

    float dl[2] = {}, ls[2] = {}, unit = scale * LOG2E;            // delta and lse of the rows that this lane's accumulators lie in
    for (int r = 0; r < 16 && q0 + mine + r < T; r++) {
        i64 row = q0 + mine + r, at = qHead + row * qStride;
        float dot = 0;
        for (int i = LANE; i < d; i += WARP) dot += dy[at + i] * get1(o, at + i, half);
        dot = warpSum(dot);
        if (LANE == 0) delta[stats + row] = dot;
        if (LANE / 4 == r % 8) dl[r / 8] = dot, ls[r / 8] = lse[stats + row] * LOG2E;
    }
    if (dq == nullptr) return;

    unsigned qa[D / 16][4], ya[D / 16][4];
    loadTile<ROWS>(tiles[0], q + qHead, qStride, q0, T, d);
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < D / 16; i++) leftOperand(qa[i], tiles[0], mine, i);
    __syncthreads();
    loadTile<ROWS>(tiles[0], dy + qHead, qStride, q0, T, d);
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < D / 16; i++) leftOperand(ya[i], tiles[0], mine, i);

    float acc[D / 8][4] = {};
    for (int k0 = 0; k0 < q0 + ROWS && k0 < T; k0 += STEP) {
        __syncthreads();
        loadTile<STEP>(tiles[0], k + kHead, kStride, k0, T, d);
        loadTile<STEP>(tiles[1], v + kHead, kStride, k0, T, d);
        __syncthreads();
        float s[STEP / 8][4] = {}, dp[STEP / 8][4] = {};
        #pragma unroll
        for (int i = 0; i < D / 16; i++) timesTransposed<STEP>(s, qa[i], tiles[0], i), timesTransposed<STEP>(dp, ya[i], tiles[1], i);
        bool crossed = k0 + STEP > q0 + mine;
        #pragma unroll
        for (int n = 0; n < STEP / 8; n++) {
            #pragma unroll
            for (int e = 0; e < 4; e++) {
                bool seen = !crossed || k0 + colOf(n, e) <= q0 + mine + rowOf(e);
                s[n][e] = seen ? exp2f(fmaf(s[n][e], unit, -ls[e / 2])) * (dp[n][e] - dl[e / 2]) : 0;
            }
        }
        times<STEP>(acc, s, tiles[0]);
    }
    storeRows(dq + qHead, accQ, acc, scale, qStride, q0 + mine, T, d);
}

// dk and dv: everything transposed, keys in rows and queries in columns
extern "C" __global__ void __launch_bounds__(THREADS) attentionBackKV(float* dk, int accK, float* dv, int accV, const float* delta,
                                                                      const float* dy, const float* lse, const float* q, const float* k,
                                                                      const float* v, int T, int H, int K, int d, float scale) {
    __shared__ uint4 keys[ROWS * C], values[ROWS * C], queries[STEP * C], grads[STEP * C];
    int kh = blockIdx.y, b = blockIdx.z, k0 = blockIdx.x * ROWS, mine = threadIdx.x / WARP * 16;
    i64 qStride = (i64) H * d, kStride = (i64) K * d, kHead = b * T * kStride + kh * d;
    loadTile<ROWS>(keys, k + kHead, kStride, k0, T, d);
    loadTile<ROWS>(values, v + kHead, kStride, k0, T, d);

    float ka[D / 8][4] = {}, va[D / 8][4] = {}, unit = scale * LOG2E;
    for (int h = kh * (H / K); h < (kh + 1) * (H / K); h++) {
        i64 qHead = b * T * qStride + h * d, stats = ((i64) b * H + h) * T;
        for (int q0 = k0; q0 < T; q0 += STEP) {
            __syncthreads();
            loadTile<STEP>(queries, q + qHead, qStride, q0, T, d);
            loadTile<STEP>(grads, dy + qHead, qStride, q0, T, d);
            __syncthreads();
            float p[STEP / 8][4] = {}, dp[STEP / 8][4] = {};
            #pragma unroll 2                                       // all at once, D = 128 would want more than 255 registers
            for (int i = 0; i < D / 16; i++) {
                unsigned a[4];
                leftOperand(a, keys, mine, i);
                timesTransposed<STEP>(p, a, queries, i);
                leftOperand(a, values, mine, i);
                timesTransposed<STEP>(dp, a, grads, i);
            }
            #pragma unroll
            for (int n = 0; n < STEP / 8; n++) {
                #pragma unroll
                for (int e = 0; e < 4; e++) {
                    int row = q0 + colOf(n, e);
                    bool seen = row < T && k0 + mine + rowOf(e) <= row;
                    p[n][e] = seen ? exp2f(fmaf(p[n][e], unit, -lse[stats + row] * LOG2E)) : 0;
                    dp[n][e] = seen ? p[n][e] * (dp[n][e] - delta[stats + row]) : 0;
                }
            }
            times<STEP>(va, p, grads);
            times<STEP>(ka, dp, queries);
        }
    }
    if (dk) storeRows(dk + kHead, accK, ka, scale, kStride, k0 + mine, T, d);
    if (dv) storeRows(dv + kHead, accV, va, 1, kStride, k0 + mine, T, d);
}
