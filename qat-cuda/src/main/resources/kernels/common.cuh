// common.cuh -- the few words every kernel speaks. No NVIDIA header is included anywhere: NVRTC brings the built-ins.
//
//   bf16                   a bfloat16 as its 16 bits; toFloat, toBf16, packBf16 (two values, nearest even), low, high
//   warpSum/Max/Min        over the 32 lanes, every lane gets the same bits
//   blockSum/Max           over a block of whole warps, every thread gets the same bits, in a fixed order
//   put                    *p = v, or *p += v where acc says so
//   load4 store4 load16 .. 16 bytes at once, from 16-byte aligned addresses; ...nc reads past the coherent cache
//   cpAsync16 Commit Wait  16 bytes from global to shared memory while the thread goes on (cp.async)
//   ldmatrix4 ldmatrix4t   four 8x8 matrices of 16-bit values from shared memory to fragments (ldmatrix.x4[.trans])
//   mma16816               D (16, 8) += A (16, 16) B (16, 8), bf16 operands, fp32 sums (mma.sync.m16n8k16)
//   get4 put4 give4         four elements of an fp32 or BF16 tensor, 16 bytes at once where rows allow; give4 writes or adds
//   least most clamp        of floats, a NaN stays one      lanesSum, blockMin, RowSum   more fixed-order reductions
//   philox unit             counter-based random numbers, the same as dev.qat.ops.Philox
//
// The words below the line are instructions that C++ cannot say. On the device they are inline PTX (sm_80 and newer);
// under QAT_SIMT the tests' stand-in brings their C++ twins, and nothing else of a kernel differs.
#pragma once

#define WARP 32
#define FULL 0xffffffffu
#define LANE (threadIdx.x % WARP)

typedef unsigned short bf16;
typedef long long i64;

// ---- instructions -------------------------------------------------------------------------------------------------

#ifndef QAT_SIMT

// 16 bytes that no thread of this launch writes.
__device__ __forceinline__ uint4 load16nc(const void* p) {
    uint4 v;
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

// lo in the lower half word, hi in the upper, each rounded to nearest even; a NaN becomes 0x7fff.
__device__ __forceinline__ unsigned packBf16(float lo, float hi) {
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

// 16 bytes from global to shared memory, zeros where !valid (from must be an address all the same). Seen by this thread
// after the wait for its group, by others after a barrier that follows that wait.
__device__ __forceinline__ void cpAsync16(void* to, const void* from, bool valid = true) {
    unsigned s = (unsigned) __cvta_generic_to_shared(to);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(s), "l"(from), "r"(bytes) : "memory");
}
// Makes one group of all copies since the last.
__device__ __forceinline__ void cpAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most the N youngest groups are still under way.
template <int N> __device__ __forceinline__ void cpAsyncWait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

// d += A B. With g = lane / 4 and t = lane % 4 (all pairs lower index in the lower half word):
//   a[0..3]  A[g][2t, 2t+1]   A[g+8][2t, 2t+1]   A[g][2t+8, 2t+9]   A[g+8][2t+8, 2t+9]
//   b[0..1]  B[2t, 2t+1][g]   B[2t+8, 2t+9][g]
//   d[0..3]  D[g][2t] D[g][2t+1]   D[g+8][2t] D[g+8][2t+1]
__device__ __forceinline__ void mma16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Lane 8m + r names the 16 bytes of row r of matrix m. r[m] holds M[lane/4][2(lane%4), +1]: an A fragment from the
// matrices (top left, bottom left, top right, bottom right). The t form gives the transpose's: B from row-major rows.
__device__ __forceinline__ void ldmatrix4(unsigned (&r)[4], const void* row) {
    unsigned s = (unsigned) __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory");
}
__device__ __forceinline__ void ldmatrix4t(unsigned (&r)[4], const void* row) {
    unsigned s = (unsigned) __cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory");
}

#endif

// ---- words --------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float toFloat(bf16 v) { return __uint_as_float((unsigned) v << 16); }
__device__ __forceinline__ bf16 toBf16(float v) { return (bf16) packBf16(v, 0); }
__device__ __forceinline__ float low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ void put(float* p, float v, int acc) { *p = acc ? *p + v : v; }

__device__ __forceinline__ uint4 load16(const void* p) { return *(const uint4*) p; }
__device__ __forceinline__ void store16(void* p, uint4 v) { *(uint4*) p = v; }
__device__ __forceinline__ float4 load4(const float* p) { return *(const float4*) p; }
__device__ __forceinline__ void store4(float* p, float4 v) { *(float4*) p = v; }
__device__ __forceinline__ float4 load4nc(const float* p) {
    uint4 v = load16nc(p);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

// An xor tree adds the same pairs in every lane, and a + b == b + a: all lanes end with the same bits.
__device__ __forceinline__ float warpSum(float v) {
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(FULL, v, d);
    return v;
}
__device__ __forceinline__ float warpMax(float v) {
    for (int d = WARP / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, d));
    return v;
}
__device__ __forceinline__ float warpMin(float v) {
    for (int d = WARP / 2; d > 0; d /= 2) v = fminf(v, __shfl_xor_sync(FULL, v, d));
    return v;
}

// Every thread of a block of whole warps must call these, up to 1024 threads. The sums of the warps are added in
// ascending order. The last barrier lets the caller call again at once.
__device__ __forceinline__ float blockSum(float v) {
    __shared__ float parts[WARP];
    v = warpSum(v);
    if (LANE == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    float sum = parts[0];
    for (int w = 1; w < blockDim.x / WARP; w++) sum += parts[w];
    __syncthreads();
    return sum;
}
__device__ __forceinline__ float blockMax(float v) {
    __shared__ float parts[WARP];
    v = warpMax(v);
    if (LANE == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    float max = parts[0];
    for (int w = 1; w < blockDim.x / WARP; w++) max = fmaxf(max, parts[w]);
    __syncthreads();
    return max;
}

// ---- four at a time -----------------------------------------------------------------------------------------------
// A kernel over fp32 or BF16 (half) tensors takes four elements a thread: 16 bytes (8 of BF16) at once where `wide` says
// that every row begins on such an address, one by one otherwise and in the last, shorter part of a row.

#define INF __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

__device__ __forceinline__ i64 globalThread() { return (i64) blockIdx.x * blockDim.x + threadIdx.x; }

// the group that this thread shares with `lanes` neighbours, a power of two that divides the block
__device__ __forceinline__ int groupOf(int lanes) { return blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes; }

// how many of the four elements from `at` on there are
__device__ __forceinline__ int countOf(i64 end, i64 at) { return end - at < 4 ? (int) (end - at) : 4; }

__device__ __forceinline__ float get1(const void* p, i64 i, int half) {
    return half ? toFloat(((const bf16*) p)[i]) : ((const float*) p)[i];
}
__device__ __forceinline__ void put1(void* p, i64 i, float v, int half) {
    if (half) ((bf16*) p)[i] = toBf16(v);
    else ((float*) p)[i] = v;
}

// v = p[i .. i+count), zeros beyond
__device__ __forceinline__ void get4(float (&v)[4], const void* p, i64 i, int count, int wide, int half = 0) {
    if (!wide || count < 4) {
        #pragma unroll
        for (int k = 0; k < 4; k++) v[k] = k < count ? get1(p, i + k, half) : 0;
    } else if (half) {
        uint2 u = *(const uint2*) ((const bf16*) p + i);
        v[0] = low(u.x), v[1] = high(u.x), v[2] = low(u.y), v[3] = high(u.y);
    } else {
        float4 f = load4((const float*) p + i);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    }
}

// p[i .. i+count) = v
__device__ __forceinline__ void put4(void* p, i64 i, const float (&v)[4], int count, int wide, int half = 0) {
    if (!wide || count < 4) {
        #pragma unroll
        for (int k = 0; k < 4; k++) if (k < count) put1(p, i + k, v[k], half);
    } else if (half) *(uint2*) ((bf16*) p + i) = make_uint2(packBf16(v[0], v[1]), packBf16(v[2], v[3]));
    else store4((float*) p + i, make_float4(v[0], v[1], v[2], v[3]));
}

// the same where acc says whether it is written or added
// acc: 0 writes fp32, 1 adds to it, 2 writes BF16
__device__ __forceinline__ void give4(float* p, i64 i, const float (&v)[4], int count, int wide, int acc) {
    float sum[4] = {};
    if (acc == 1) get4(sum, p, i, count, wide);
    #pragma unroll
    for (int k = 0; k < 4; k++) sum[k] = acc == 1 ? sum[k] + v[k] : v[k];
    put4(p, i, sum, count, wide, acc == 2);
}

// ---- more words ---------------------------------------------------------------------------------------------------

// A NaN stays one, where fminf and fmaxf would hide it.
__device__ __forceinline__ float least(float a, float b) { return a < b || a != a ? a : b; }
__device__ __forceinline__ float most(float a, float b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ float clamp(float v, float from, float to) { return v < from ? from : v > to ? to : v; }

// the sum over `lanes` neighbours, a power of two of them; every lane of the warp must call it
__device__ __forceinline__ float lanesSum(float v, int lanes) {
    for (int d = lanes / 2; d > 0; d /= 2) v += __shfl_xor_sync(FULL, v, d);
    return v;
}

// the four words of Philox4x32-10 (Salmon et al., SC 2011) at counter (low half of index, c1, c2, high half) under key (k0, k1)
__device__ __forceinline__ void philox(unsigned (&c)[4], unsigned k0, unsigned k1, i64 index, unsigned c1, unsigned c2) {
    c[0] = (unsigned) index, c[1] = c1, c[2] = c2, c[3] = (unsigned) (index >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        unsigned a = 0xD2511F53u * c[0], b = 0xCD9E8D57u * c[2];
        unsigned ah = __umulhi(0xD2511F53u, c[0]), bh = __umulhi(0xCD9E8D57u, c[2]);
        c[0] = bh ^ c[1] ^ k0, c[2] = ah ^ c[3] ^ k1;
        c[1] = b, c[3] = a;
    }
}
__device__ __forceinline__ float unit(unsigned word) { return (word >> 8) * 0x1p-24f; }

__device__ __forceinline__ int blockMin(int v) {
    __shared__ int parts[WARP];
    for (int d = WARP / 2; d > 0; d /= 2) v = min(v, __shfl_xor_sync(FULL, v, d));
    if (LANE == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    int least = parts[0];
    for (int w = 1; w < blockDim.x / WARP; w++) least = min(least, parts[w]);
    __syncthreads();
    return least;
}

// max z and Σ exp((z − max) / tau) of a row that a block shares, in one pass: a running maximum shrinks what was summed before
struct RowSum {
    float max, sum;

    __device__ RowSum(const float* z, int V, int wide, float tau = 1) {
        float mine = 0, top = -INF;
        for (int i = 4 * threadIdx.x; i < V; i += 4 * blockDim.x) {
            float v[4], before = top;
            get4(v, z, i, V - i, wide);
            for (int k = 0; k < 4; k++) if (i + k < V) top = fmaxf(top, v[k]);
            mine *= expf((before - top) / tau);
            for (int k = 0; k < 4; k++) if (i + k < V) mine += expf((v[k] - top) / tau);
        }
        max = blockMax(top);
        sum = blockSum(top == -INF ? mine : mine * expf((top - max) / tau));
    }
};
