// uniform.cu -- y_i uniform in [0, 1): the upper 24 bits of word i % 4 of Philox4x32-10 at counter (i/4, key₂, key₃) under
// the key (key₀, key₁); the counter's first and last word hold the low and high half of i/4
//
// y (n) fp32   key (4)      one thread per 4 elements      a pure function of key and index: the same bits everywhere
#include "common.cuh"

extern "C" __global__ void uniform(float* y, const int* key, i64 n, int wide) {
    i64 block = globalThread();
    if (4 * block >= n) return;
    unsigned word[4];
    philox(word, key[0], key[1], block, key[2], key[3]);
    float v[4];
    for (int k = 0; k < 4; k++) v[k] = unit(word[k]);
    put4(y, 4 * block, v, countOf(n, 4 * block), wide);
}
