// trits.cuh -- the scale and edge of one group of ternary weights as they are used, and a weight's trit
#pragma once
#include "common.cuh"

struct Group {
    float scale, edge;

    // a learned scale has no edge of its own: it is a share of it
    __device__ Group(const float* s, const float* e, i64 group, float share) {
        scale = e ? s[group] : most(s[group], 1e-5f);
        edge = e ? e[group] : share * scale;
    }

    // NaN where w is
    __device__ float trit(float w) const { return w >= edge ? 1 : w <= -edge ? -1 : 0 * w; }

    // a weight that is NaN counts as dead, so that it is seen
    __device__ bool dead(float w) const { return !(fabsf(w) >= edge); }
};

enum { ZONE, QUADS, FOURS };

// t = the trits of four neighbours: of QUADS the first of the smallest is 0, the others are not; FOURS are 0 to 3
__device__ __forceinline__ void trits(float (&t)[4], const float (&w)[4], const Group& g, int shape) {
    int zero = 0;
    for (int k = 1; k < 4; k++) if (fabsf(w[k]) < fabsf(w[zero])) zero = k;
    for (int k = 0; k < 4; k++) {
        if (shape == ZONE) t[k] = g.trit(w[k]);
        else if (shape == FOURS) t[k] = w[k] > g.edge ? 3 : w[k] >= 0 ? 2 : w[k] > -g.edge ? 1 : 0 * w[k];
        else t[k] = k == zero ? 0 * w[k] : w[k] >= 0 ? 1 : w[k] < 0 ? -1 : 0 * w[k];
    }
}
