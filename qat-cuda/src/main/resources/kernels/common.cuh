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
