// ternaryRange.cu -- the scale of every group of ternary weights and the edge of its dead zone
//
//   0 absmean   scale = mean |w|                          edge = scale / 2
//   1 TWN       edge  = ¾ mean |w|                        scale = mean of |w| where |w| ≥ edge, 0 where none is
//   2 median    scale = lower median of |w|               edge = scale / 2
//   3 quads     scale = Σ three largest |w| of every four / (¾ G)      edge = 0
//
// w (groups · G) fp32 or BF16   scale, edge (groups) fp32
// One block per group; fixed-order sums. The median is found bit by bit from the highest: how many lie below decides a bit.
// A long group is shared by `split` blocks, `span` elements each, which leave their part in `parts` (groups, split) for a second
// launch, one warp per group, to add in order; its median is found four bits a pass, from how many have each next digit.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(512) ternaryRange(float* scale, float* edge, const void* w, int halfW, int rule, i64 G, int wide) {
    i64 from = blockIdx.x * G, to = from + G;
    float sum = 0;
    for (i64 i = from + 4 * threadIdx.x; i < to; i += 4 * blockDim.x) {
        float v[4], least = INF, part = 0;
        get4(v, w, i, countOf(to, i), wide, halfW);
        for (int k = 0; k < 4; k++) part += fabsf(v[k]), least = fminf(least, fabsf(v[k]));
        sum += rule == 3 ? part - least : part;
    }
    float mean = blockSum(sum) / (rule == 3 ? 0.75f * G : G), s = mean, e = rule == 3 ? 0 : (rule == 1 ? 0.75f : 0.5f) * mean;
    if (rule == 1) {
        float part = 0, count = 0;
        for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) {
            float v = fabsf(get1(w, i, halfW));
            if (v >= e) part += v, count++;
        }
        part = blockSum(part), count = blockSum(count);
        s = count > 0 ? part / count : 0;
    }
    if (rule == 2) {
        int found = 0, wanted = (int) ((G - 1) / 2);
        for (int bit = 30; bit >= 0; bit--) {
            int candidate = found | 1 << bit;
            if (candidate > 0x7f800000) continue;
            float below = 0;
            for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) below += fabsf(get1(w, i, halfW)) < __int_as_float(candidate);
            if (blockSum(below) <= wanted) found = candidate;
        }
        s = __int_as_float(found), e = 0.5f * s;
    }
    if (threadIdx.x > 0) return;
    scale[blockIdx.x] = s;
    edge[blockIdx.x] = e;
}

// ---- long groups ----------------------------------------------------------------------------------------------------

// what of its group a block takes
struct Piece {
    i64 from, to;

    __device__ Piece(i64 G, i64 span, int split) {
        i64 group = blockIdx.x / split * G;
        from = group + blockIdx.x % split * span, to = min(from + span, group + G);
    }
};

// Σ of so many numbers, every `stride`-th, by one warp
__device__ __forceinline__ float total(const float* parts, int count, int stride) {
    float sum = 0;
    for (int i = LANE; i < count; i += WARP) sum += parts[i * stride];
    return warpSum(sum);
}

extern "C" __global__ void __launch_bounds__(512) ternaryRangeSum(float* parts, const void* w, int halfW, int rule, i64 G, i64 span, int split, int wide) {
    Piece p(G, span, split);
    float sum = 0;
    for (i64 i = p.from + 4 * threadIdx.x; i < p.to; i += 4 * blockDim.x) {
        float v[4], least = INF, part = 0;
        get4(v, w, i, countOf(p.to, i), wide, halfW);
        for (int k = 0; k < 4; k++) part += fabsf(v[k]), least = fminf(least, fabsf(v[k]));
        sum += rule == 3 ? part - least : part;
    }
    sum = blockSum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(32) ternaryRangeMean(float* scale, float* edge, const float* parts, int split, int rule, i64 G) {
    float mean = total(parts + (i64) blockIdx.x * split, split, 1) / (rule == 3 ? 0.75f * G : G);
    if (threadIdx.x > 0) return;
    scale[blockIdx.x] = mean;
    edge[blockIdx.x] = rule == 3 ? 0 : (rule == 1 ? 0.75f : 0.5f) * mean;
}

// TWN: the sum and the number of those at or beyond the edge
extern "C" __global__ void __launch_bounds__(512) ternaryRangeBeyond(float* parts, const void* w, int halfW, const float* edge, i64 G, i64 span, int split) {
    Piece p(G, span, split);
    float e = edge[blockIdx.x / split], sum = 0, count = 0;
    for (i64 i = p.from + threadIdx.x; i < p.to; i += blockDim.x) {
        float v = fabsf(get1(w, i, halfW));
        if (v >= e) sum += v, count++;
    }
    sum = blockSum(sum), count = blockSum(count);
    if (threadIdx.x == 0) parts[2 * blockIdx.x] = sum, parts[2 * blockIdx.x + 1] = count;
}

extern "C" __global__ void __launch_bounds__(32) ternaryRangeRatio(float* scale, const float* parts, int split) {
    const float* mine = parts + 2ll * blockIdx.x * split;
    float sum = total(mine, split, 2), count = total(mine + 1, split, 2);
    if (threadIdx.x == 0) scale[blockIdx.x] = count > 0 ? sum / count : 0;
}

// counts (groups, split, 16) of the next digit of what begins with the bits found so far, which lie in edge
extern "C" __global__ void __launch_bounds__(512) ternaryRangeDigits(int* counts, const void* w, int halfW, const float* edge, int shift, i64 G, i64 span, int split) {
    __shared__ int all[16];
    if (threadIdx.x < 16) all[threadIdx.x] = 0;
    __syncthreads();
    Piece p(G, span, split);
    unsigned found = shift == 28 ? 0 : __float_as_uint(edge[blockIdx.x / split]);
    for (i64 i = p.from + threadIdx.x; i < p.to; i += blockDim.x) {
        unsigned digit = (__float_as_uint(fabsf(get1(w, i, halfW))) ^ found) >> shift;
        if (digit < 16) atomicAdd(&all[digit], 1);                     // whole numbers: any order gives the same
    }
    __syncthreads();
    if (threadIdx.x < 16) counts[16 * blockIdx.x + threadIdx.x] = all[threadIdx.x];
}

// takes the digit in which the rank falls that is left, kept in scale; after the last the bits are the median
extern "C" __global__ void __launch_bounds__(32) ternaryRangeDigit(float* scale, float* edge, const int* counts, int shift, int split, i64 G) {
    if (threadIdx.x > 0) return;
    int left = shift == 28 ? (int) ((G - 1) / 2) : __float_as_int(scale[blockIdx.x]), digit = 0;
    unsigned found = shift == 28 ? 0 : __float_as_uint(edge[blockIdx.x]);
    for (; digit < 15; digit++) {
        int n = 0;
        for (int i = 0; i < split; i++) n += counts[16 * (blockIdx.x * split + i) + digit];
        if (left < n) break;
        left -= n;
    }
    found |= (unsigned) digit << shift;
    float s = __uint_as_float(found);
    scale[blockIdx.x] = shift > 0 ? __int_as_float(left) : s;
    edge[blockIdx.x] = shift > 0 ? s : 0.5f * s;
}
