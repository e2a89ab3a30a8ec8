// mixHeads.cu -- y_phjq = Σ_i M_k[j, i] · x_phiq, k = h / repeat: the D values of every head times the matrix of its group
//
//   transposed: M_k[i, j] in place of M_k[j, i]; that is also dx of dy
//   dm_k[j, i] (+)= Σ_p Σ_{h of k} Σ_q left_phjq · right_phiq        left dy, right x; transposed the other way round
//
// x, y, dx, dy (P, H, D, Q)   m, dm (K·D, D)   all fp32      acc: 0 writes, 1 adds
// mixHeads: one thread per value. mixHeadsBack: one warp per entry of a matrix. Fixed order, so deterministic.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) mixHeads(float* y, int acc, const float* x, const float* m, i64 n, int H, int D, int Q, int repeat,
                                                           int transposed) {
    i64 at = globalThread();
    if (at >= n) return;
    int q = (int) (at % Q), j = (int) (at / Q % D);
    i64 slab = at / Q / D;
    const float* M = m + slab % H / repeat * D * D;
    const float* column = x + slab * D * Q + q;
    float total = 0;
    for (int i = 0; i < D; i++) total += M[transposed ? i * D + j : j * D + i] * column[(i64) i * Q];
    put(&y[at], total, acc);
}

extern "C" __global__ void __launch_bounds__(256) mixHeadsBack(float* dm, int acc, const float* left, const float* right, i64 n, int P, int H, int D,
                                                               int Q, int repeat) {
    i64 entry = groupOf(WARP);
    if (entry >= n) return;
    int i = (int) (entry % D), j = (int) (entry / D % D);
    i64 k = entry / D / D, terms = (i64) P * repeat * Q;
    float total = 0;
    for (i64 t = LANE; t < terms; t += WARP) {
        i64 slab = t / Q / repeat * H + k * repeat + t / Q % repeat;
        total += left[(slab * D + j) * Q + t % Q] * right[(slab * D + i) * Q + t % Q];
    }
    total = warpSum(total);
    if (LANE == 0) put(&dm[entry], total, acc);
}
