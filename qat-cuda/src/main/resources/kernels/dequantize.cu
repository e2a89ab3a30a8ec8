// dequantize.cu -- y = (code − zero) · step      dstep (+)= Σ_group dy · (code − zero)
//   minimum:       y = code · step + zero      dstep (+)= Σ_group dy · code
//
// words (O, ceil(I·bits/32)): code i of a row is bits i·bits .. (i+1)·bits of its words, lowest first   step, zero, dstep (O, I/G)
// zero: fp32, or bytes (narrow)   y (O, I) fp32 or BF16, the operand of the product that reads it   dy (O, I) fp32      acc: 0 writes, 1 adds
// dequantize: one block per row, a thread unpacks 8 codes from one 64-bit window and writes them as 16 bytes of BF16.
// dequantizeBack: `lanes` neighbouring threads share a group, 4 codes each.  Fixed order, so deterministic; y is one
// difference and one product, or one product and one sum never contracted: the same bits as the reference.
#include "common.cuh"

// bits from..from+count of a row in the low bits, count at most 64; reads no word that holds none of them
__device__ __forceinline__ unsigned long long window(const unsigned* row, i64 from, int count) {
    const unsigned* w = row + (from >> 5);
    int shift = (int) (from & 31);
    unsigned long long bits = w[0];
    if (shift + count > 32) bits |= (unsigned long long) w[1] << 32;
    bits >>= shift;
    if (shift + count > 64) bits |= (unsigned long long) w[2] << (64 - shift);
    return bits;
}

__device__ __forceinline__ float zeroPoint(const void* zero, i64 i, int narrow) {
    return narrow ? (float) ((const unsigned char*) zero)[i] : ((const float*) zero)[i];
}

extern "C" __global__ void __launch_bounds__(256) dequantize(void* y, int half, const unsigned* words, const float* step, const void* zero,
                                                             int narrow, int bits, int minimum, int I, int G, int rowWords, int wide) {
    i64 row = blockIdx.x;
    int groups = I / G, mask = (1 << bits) - 1;
    i64 first = row * groups;
    step += first;
    for (int i = 8 * threadIdx.x; i < I; i += 8 * blockDim.x) {
        int count = I - i < 8 ? I - i : 8;
        unsigned long long codes = window(words + row * rowWords, (i64) i * bits, count * bits);
        float v[2][4];
        int group = i / G, next = (group + 1) * G;
        float s = step[group], z = zeroPoint(zero, first + group, narrow);
        #pragma unroll
        for (int k = 0; k < 8; k++) {
            if (i + k == next && k < count) group++, next += G, s = step[group], z = zeroPoint(zero, first + group, narrow);
            float code = (int) (codes >> k * bits) & mask;
            v[k / 4][k % 4] = minimum ? __fadd_rn(__fmul_rn(code, s), z) : (code - z) * s;
        }
        if (half && wide && count == 8) {
            store16((bf16*) y + row * I + i, make_uint4(packBf16(v[0][0], v[0][1]), packBf16(v[0][2], v[0][3]),
                                                        packBf16(v[1][0], v[1][1]), packBf16(v[1][2], v[1][3])));
        } else {
            put4(y, row * I + i, v[0], count, wide, half);
            put4(y, row * I + i + 4, v[1], count - 4, wide, half);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) dequantizeBack(float* dstep, int acc, const float* dy, const unsigned* words, const void* zero,
                                                                 int narrow, int bits, int minimum, int I, int G, int rowWords, int groups, int lanes, int wide) {
    int group = groupOf(lanes), lane = threadIdx.x % lanes, mask = (1 << bits) - 1;
    float total = 0;
    if (group < groups) {
        i64 row = group / (I / G);
        int first = group % (I / G) * G;
        float z = minimum ? 0 : zeroPoint(zero, group, narrow);
        for (int i = 4 * lane; i < G; i += 4 * lanes) {
            int count = G - i < 4 ? G - i : 4;
            unsigned long long codes = window(words + row * rowWords, (i64) (first + i) * bits, count * bits);
            float d[4];
            get4(d, dy, (i64) group * G + i, count, wide);
            for (int k = 0; k < 4; k++) total += d[k] * (((int) (codes >> k * bits) & mask) - z);
        }
    }
    total = lanesSum(total, lanes);
    if (group < groups && lane == 0) put(&dstep[group], total, acc);
}
