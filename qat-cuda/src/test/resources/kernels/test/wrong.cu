// wrong.cu -- kernels with one mistake each, for the tests that the stand-in finds it
#include "common.cuh"

extern "C" __global__ void overrun(float* x, int n) { x[n + (int) threadIdx.x] = 1; }      // beyond the allocation
extern "C" __global__ void stray(float* x, i64 far) { x[far] = 1; }                         // far beyond
extern "C" __global__ void misaligned(float* x) { store4(x + 1, make_float4(0, 0, 0, 0)); }
extern "C" __global__ void crooked(float* x, int i) {                                       // beyond an array
    __shared__ float few[8];
    few[threadIdx.x % 8] = 0;
    __syncthreads();
    x[0] = few[i];
}
extern "C" __global__ void dynamicOverrun(float* x, int n) {
    extern __shared__ float shared[];
    shared[n] = x[0];
}
extern "C" __global__ void twoBarriers(float* x) {
    if (threadIdx.x < 32) __syncthreads();
    else
        __syncthreads();
    x[0] = 1;
}
extern "C" __global__ void lonelyLane(float* x) {
    if (threadIdx.x == 0) x[0] = __shfl_sync(3u, x[0], 1);                                  // lane 1 stands at the barrier
    __syncthreads();
}
extern "C" __global__ void unwritten(float* x) {
    __shared__ float tile[64];
    if (x[0] > 1e30f) tile[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void early(float* y, const float* x) {                                // reads before the copies' wait
    __shared__ __align__(16) float tile[128];
    cpAsync16(tile + 4 * threadIdx.x, x + 4 * threadIdx.x);
    cpAsyncCommit();
    y[threadIdx.x] = tile[4 * threadIdx.x];
    cpAsyncWait<0>();
    y[32 + threadIdx.x] = tile[4 * threadIdx.x];
}
__device__ __noinline__ float deep(float* x, int depth) {
    volatile float here[2048];
    here[depth % 2048] = x[0];
    return depth == 0 ? 0 : here[depth % 2048] + deep(x, depth - 1);
}
extern "C" __global__ void endless(float* x, int depth) { x[0] = deep(x, depth); }          // beyond a thread's stack
extern "C" __global__ void follow(float** table) { *table[0] = 1; }                         // an address inside memory
extern "C" __global__ void divide(int* x) { x[0] = 7 / x[1]; }
