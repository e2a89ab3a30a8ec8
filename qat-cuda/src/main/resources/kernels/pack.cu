// pack.cu -- the codes of fakeQuant as a dense little-endian bit stream per row, with the grid they were made on
//
//   s′ = clamp(step, 1e-4, 1e4)      z′ = clamp(rint(zero), 0, Q)      code = clamp(rint(w/s′) + z′, 0, Q)
//   minimum: z′ = zero                                            code = clamp(rint((w − z′)/s′), 0, Q)
//
// w (O, I) fp32 or BF16   step, zero (O, I/G) → packedStep = s′, packedZero = z′ (O, I/G)   words (O, ceil(I·bits/32))
// One block per row; a thread makes a whole word, the codes that straddle two words included, so nobody shares a word.
// One rounding per operation: dequantize gives the bits of fakeQuant.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) pack(unsigned* words, float* packedStep, float* packedZero, const void* w, int half,
                                                       const float* step, const float* zero, int bits, int minimum, int I, int G, int rowWords) {
    int groups = I / G;
    i64 row = blockIdx.x, first = row * groups;
    float Q = (1 << bits) - 1;
    for (int g = threadIdx.x; g < groups; g += blockDim.x) {
        packedStep[first + g] = clamp(step[first + g], 1e-4f, 1e4f);
        packedZero[first + g] = minimum ? zero[first + g] : clamp(rintf(zero[first + g]), 0, Q);
    }
    for (int word = threadIdx.x; word < rowWords; word += blockDim.x) {
        i64 from = 32LL * word;
        unsigned all = 0;
        for (int i = from / bits; i < I && (i64) i * bits < from + 32; i++) {
            float s = clamp(step[first + i / G], 1e-4f, 1e4f), z = zero[first + i / G], v = get1(w, row * I + i, half);
            unsigned code = (unsigned) clamp(minimum ? rintf((v - z) / s) : rintf(v / s) + clamp(rintf(z), 0, Q), 0, Q);
            int shift = (int) ((i64) i * bits - from);
            all |= shift < 0 ? code >> -shift : code << shift;
        }
        words[row * rowWords + word] = all;
    }
}
