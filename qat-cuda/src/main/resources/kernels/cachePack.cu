// cachePack.cu -- keys or values kept as rowQuant's integers with a scale per token, or for each of its M heads, and read back
//
//   symmetric    s = top / (max|x| + 1e-6),  top = 2^(b−1) − 1     code = rint(x·s) + 2^(b−1)            y = (code − 2^(b−1)) / (s + 1e-6)
//   asymmetric   r = max x − min x + 1e-8,   top = 2^b − 1         code = rint((x − min)/r · top)        y = code / top · r + min
//
// codes (B, Tmax, M, words): code i of a part is bits i·bits .. (i+1)·bits, lowest first   scales (B, Tmax, M): s, or (B, Tmax, M, 2): r, min
// x (B, M, C), y (B, Tmax, M, C) fp32   positions, lengths (B)      a position outside the cache is skipped
// cachePack: one block per part of a sequence's token, a thread makes a whole word, so nobody shares one. cacheUnpack: one block per
// part in the cache, those at and beyond a sequence's length are left alone. One rounding per operation (the last product and sum stay
// apart): together the bits of rowQuant, but for the sign of zeros.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) cachePack(unsigned* codes, float* scales, const float* x, const int* positions, int bits, int symmetric,
                                                            int Tmax, int M, int C, int words, int wide) {
    i64 n = blockIdx.x, t = positions[n / M];
    float low = INF, high = -INF;
    int broken = 0;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        get4(v, x, n * C + c, C - c, wide);
        for (int k = 0; k < 4; k++) if (c + k < C) low = fminf(low, v[k]), high = fmaxf(high, v[k]), broken |= v[k] != v[k];
    }
    low = -blockMax(-low);
    high = blockMax(high);
    if (blockMin(-broken)) low = high = __int_as_float(0x7fc00000);       // a NaN must reach the scale: codes cannot hold it
    if (t < 0 || t >= Tmax) return;
    int half = 1 << (bits - 1);
    float top = symmetric ? half - 1 : (1 << bits) - 1, s = top / (fmaxf(-low, high) + 1e-6f), range = high - low + 1e-8f;
    i64 row = (n / M * Tmax + t) * M + n % M;
    if (threadIdx.x == 0) {
        if (symmetric) scales[row] = s;
        else scales[2 * row] = range, scales[2 * row + 1] = low;
    }
    for (int word = threadIdx.x; word < words; word += blockDim.x) {
        i64 from = 32LL * word;
        unsigned all = 0;
        for (int i = from / bits; i < C && (i64) i * bits < from + 32; i++) {
            float u = symmetric ? rintf(x[n * C + i] * s) : rintf((x[n * C + i] - low) / range * top);
            int whole = u == u ? (int) u : 0;
            unsigned code = (unsigned) (symmetric ? whole + half : whole) & ((1u << bits) - 1);
            int shift = (int) ((i64) i * bits - from);
            all |= shift < 0 ? code >> -shift : code << shift;
        }
        codes[row * words + word] = all;
    }
}

extern "C" __global__ void __launch_bounds__(256) cacheUnpack(float* y, const unsigned* codes, const float* scales, const int* lengths, int bits, int symmetric,
                                                              int Tmax, int M, int C, int words, int wide) {
    i64 row = blockIdx.x;
    if (row / M % Tmax >= lengths[row / M / Tmax]) return;
    int half = 1 << (bits - 1), mask = (1 << bits) - 1;
    float top = mask, s = symmetric ? scales[row] + 1e-6f : scales[2 * row], low = symmetric ? 0 : scales[2 * row + 1];
    const unsigned* from = codes + row * words;
    for (int c = 4 * threadIdx.x; c < C; c += 4 * blockDim.x) {
        float v[4];
        for (int k = 0; k < 4; k++) {
            i64 bit = (i64) (c + k) * bits;
            int word = (int) (bit >> 5), shift = (int) (bit & 31);
            unsigned long long two = c + k < C ? from[word] : 0;
            if (c + k < C && shift + bits > 32) two |= (unsigned long long) from[word + 1] << 32;
            int code = (int) (two >> shift) & mask;
            v[k] = symmetric ? (code - half) / s : __fadd_rn(__fmul_rn(code / top, s), low);
        }
        put4(y, row * C + c, v, C - c, wide);
    }
}
