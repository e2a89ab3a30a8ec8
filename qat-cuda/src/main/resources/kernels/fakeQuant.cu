// fakeQuant.cu -- group-affine fake quantization (EfficientQAT, arXiv 2407.11062 eq. 1-2), Q = 2^b − 1
//
//   s′ = clamp(step, 1e-4, 1e4)      z′ = clamp(rint(zero), 0, Q)      u = rint(w/s′) + z′      q = clamp(u, 0, Q)
//   y  = (q − z′) · s′
//
//   M  = 1[0 ≤ u ≤ Q]                dw (+)= dy · M                    straight-through
//   dstep (+)= Σ_group dy · (q − z′ − M·w/s′)      dzero (+)= Σ_group dy · s′ · (M − 1)
//
//   minimum: zero is m, a number      u = rint((w − m)/s′)      y = q · s′ + m
//   dstep (+)= Σ_group dy · (q − M·(w − m)/s′)      dzero (+)= Σ_group dy · (1 − M)
//
// w (groups · G) fp32 or BF16   y the same, written as the operand of the product that reads it   step, zero, their gradients
// (groups), dw, dy (groups · G) fp32; dw may be dy      acc: 0 writes, 1 adds; a null gradient is skipped
// `lanes` neighbouring threads (a power of two, at most a warp) share a group: the backward reads weight and gradient once.
// Values are one rounding per operation (the product that stands beside a sum is kept from contraction): the same bits as the
// reference. Sums over a group are taken in a fixed order.
#include "common.cuh"

struct Affine {
    float step, zero, low, top; // low: what is taken off a weight, the minimum

    __device__ Affine(const float* s, const float* z, int group, float Q, int minimum)
        : step(clamp(s[group], 1e-4f, 1e4f)), zero(minimum ? 0 : clamp(rintf(z[group]), 0, Q)), low(minimum ? z[group] : 0), top(Q) {}

    __device__ float value(float w, int minimum) const {
        if (minimum) return __fadd_rn(__fmul_rn(clamp(rintf((w - low) / step), 0, top), step), low);
        return (clamp(rintf(w / step) + zero, 0, top) - zero) * step;
    }
};

extern "C" __global__ void __launch_bounds__(256) fakeQuant(void* y, int halfY, const void* w, int halfW, const float* step, const float* zero,
                                                            float Q, int minimum, int groups, int G, int lanes, int wide) {
    int group = groupOf(lanes), lane = threadIdx.x % lanes;
    if (group >= groups) return;
    Affine a(step, zero, group, Q, minimum);
    for (int i = 4 * lane; i < G; i += 4 * lanes) {
        float v[4];
        get4(v, w, (i64) group * G + i, G - i, wide, halfW);
        for (int k = 0; k < 4; k++) v[k] = a.value(v[k], minimum);
        put4(y, (i64) group * G + i, v, G - i, wide, halfY);
    }
}

extern "C" __global__ void __launch_bounds__(256) fakeQuantBack(float* dw, int accW, float* dstep, int accStep, float* dzero, int accZero,
                                                                const float* dy, const void* w, int halfW, const float* step,
                                                                const float* zero, float Q, int minimum, int groups, int G, int lanes, int wide) {
    int group = groupOf(lanes), lane = threadIdx.x % lanes;
    float stepSum = 0, zeroSum = 0;
    if (group < groups) {
        Affine a(step, zero, group, Q, minimum);
        for (int i = 4 * lane; i < G; i += 4 * lanes) {
            float v[4], d[4];
            get4(v, w, (i64) group * G + i, G - i, wide, halfW);
            get4(d, dy, (i64) group * G + i, G - i, wide);
            for (int k = 0; k < 4; k++) {
                float x = (v[k] - a.low) / a.step, u = rintf(x) + a.zero;
                bool inside = 0 <= u && u <= a.top;
                stepSum += d[k] * (clamp(u, 0, a.top) - a.zero - (inside ? x : 0));
                if (!inside) zeroSum += minimum ? d[k] : -d[k] * a.step, d[k] *= 0;
            }
            if (dw) give4(dw, (i64) group * G + i, d, G - i, wide, accW);
        }
    }
    stepSum = lanesSum(stepSum, lanes), zeroSum = lanesSum(zeroSum, lanes);
    if (group >= groups || lane > 0) return;
    if (dstep) put(&dstep[group], stepSum, accStep);
    if (dzero) put(&dzero[group], zeroSum, accZero);
}
