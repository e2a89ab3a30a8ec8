// adamw.cu -- AdamW over a whole slab, fused with clipping by the global norm
//
//   g′ = g · min(1, maxNorm / (√squares + 1e-6))
//   m  = β₁ m + (1 − β₁) g′      v = β₂ v + (1 − β₂) g′²
//   p −= lr · (m·c₁ / (√(v·c₂) + eps) + decay · p)
// Where squares is no finite number nothing changes.
//
// p, g, m, v (n) fp32   hyper (8): lr, β₁, β₂, eps, decay, c₁, c₂, maxNorm (0: no clipping)   squares (1) or null
// One thread per 4 elements.  Element-wise, so deterministic.  What changes from step to step is read from the device, so
// a captured graph can be replayed.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) adamw(float* p, const float* g, float* m, float* v, const float* hyper,
                                                        const float* squares, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n || (squares != nullptr && !(*squares - *squares == 0))) return;
    float lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2], eps = hyper[3], decay = hyper[4], c1 = hyper[5], c2 = hyper[6], maxNorm = hyper[7];
    float clip = squares == nullptr || maxNorm == 0 ? 1 : least(1, maxNorm / (sqrtf(*squares) + 1e-6f));
    int count = countOf(n, i);
    float pp[4], gg[4], mm[4], vv[4];
    get4(pp, p, i, count, wide);
    get4(gg, g, i, count, wide);
    get4(mm, m, i, count, wide);
    get4(vv, v, i, count, wide);
    for (int k = 0; k < 4; k++) {
        float slope = gg[k] * clip;
        mm[k] = beta1 * mm[k] + (1 - beta1) * slope;
        vv[k] = beta2 * vv[k] + (1 - beta2) * slope * slope;
        pp[k] -= lr * (mm[k] * c1 / (sqrtf(vv[k] * c2) + eps) + decay * pp[k]);
    }
    put4(p, i, pp, count, wide);
    put4(m, i, mm, count, wide);
    put4(v, i, vv, count, wide);
}
