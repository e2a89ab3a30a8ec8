// snap.cu -- numbers as a container stores them: c = clamp(x, low, high), then
//
//   snap         y = half(c)
//   snapBlocks   of `block` neighbours:  d = half(max(max |c| / 15, low))      y = ± d · clamp(rint(|c| / d), least, 15), 0 where d is
//
// half: 0 none, 1 fp16, 2 bf16, to nearest even; |c| at most 65504      the sign is − where high <= 0
// x, y (n) fp32; y may be x      one thread per element, or per block      element-wise and one rounding per operation, so the
// same bits as the reference; fp16 is rounded in integers, its subnormals (below 2⁻¹⁴) as multiples of 2⁻²⁴.
#include "common.cuh"

__device__ __forceinline__ float rounded(float x, int half) {
    if (half == 0 || x != x) return x;
    unsigned bits = __float_as_uint(x);
    if (half == 2) return __uint_as_float((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
    if ((x < 0 ? -x : x) < 0x1p-14f) return rintf(x * 0x1p24f) * 0x1p-24f;
    return __uint_as_float((bits + 0xfffu + (bits >> 13 & 1u)) & 0xffffe000u);
}

__device__ __forceinline__ float size(float x) { return x < 0 ? -x : x; }

extern "C" __global__ void __launch_bounds__(256) snap(float* y, const float* x, i64 n, float low, float high, int half, int block, float fewest) {
    i64 i = globalThread();
    if (i < n) y[i] = rounded(clamp(x[i], low, high), half);
}

extern "C" __global__ void __launch_bounds__(256) snapBlocks(float* y, const float* x, i64 n, float low, float high, int half, int block,
                                                             float fewest) {
    i64 from = globalThread() * block, to = from + block < n ? from + block : n;
    float top = 0, sign = high <= 0 ? -1 : 1;
    for (i64 i = from; i < to; i++) top = most(top, size(clamp(x[i], low, high)));
    float d = rounded(most(top / 15, low), half);
    for (i64 i = from; i < to; i++) {
        float code = clamp(rintf(size(clamp(x[i], low, high)) / d), fewest, 15);
        y[i] = d == 0 ? 0 : sign * (code * d);
    }
}
