// ternary.cu -- weights that are −1, 0 or 1 times a level (BitNet b1.58, TWN, LSQ, SEQ, DLT, Sherry, Tequila)
//
//   s = scale, e = edge      where edge is null: s = max(scale, 1e-5), e = share · s
//   t = 1 where w ≥ e, else −1 where w ≤ −e, else 0;  QUADS: the smallest of every four is 0, the others ±1
//   FOURS: t = 3 where w > e, else 2 where w ≥ 0, else 1 where w > −e, else 0
//   y = level · s · t + offset · s + shift + residual · w
//
//   v = w/s     M = 1[|w| ≤ clip · s]     dw (+)= dy · (M + residual)     dshift (+)= Σ_group dy
//   dscale (+)= slope · Σ_group dy · (level · t + offset − v where M, else beyond · sign(v))
//
// w, y (groups · G) fp32 or BF16   scale, edge, shift, their gradients (groups), dy, dw (groups · G), residual (1) fp32; dw may be dy
// edge, shift, residual may be null      acc: 0 writes, 1 adds; a null gradient is skipped
// `split` blocks share a group, `span` elements each; with more than one, the sums of ternaryBack go to parts (groups, split, 2),
// which ternaryBackParts adds in order, one warp per group. Values are one rounding per operation: the same bits as the reference. Fixed-order sums.
#include "trits.cuh"

extern "C" __global__ void __launch_bounds__(512) ternary(void* y, int halfY, const void* w, int halfW, const float* scale, const float* edge,
                                                          const float* shift, const float* residual, float level, float share, int shape,
                                                          float offset, i64 G, i64 span, int split, int wide) {
    int group = blockIdx.x / split;
    i64 from = group * G + blockIdx.x % split * span, to = min(from + span, (group + 1) * G);
    Group g(scale, edge, group, share);
    float a = __fmul_rn(g.scale, level), b = __fmul_rn(offset, g.scale);
    for (i64 i = from + 4 * threadIdx.x; i < to; i += 4 * blockDim.x) {
        int count = countOf(to, i);
        float v[4], t[4];
        get4(v, w, i, count, wide, halfW);
        trits(t, v, g, shape);
        for (int k = 0; k < 4; k++) {
            t[k] = __fmul_rn(a, t[k]);
            if (offset != 0) t[k] = __fadd_rn(t[k], b);
            if (shift) t[k] = __fadd_rn(t[k], shift[group]);
            if (residual) t[k] = __fadd_rn(t[k], __fmul_rn(*residual, v[k]));
        }
        put4(y, i, t, count, wide, halfY);
    }
}

extern "C" __global__ void __launch_bounds__(512) ternaryBack(float* dw, int accW, float* dscale, int accScale, float* dshift, int accShift,
                                                              const float* dy, const void* w, int halfW, const float* scale, const float* edge,
                                                              const float* residual, float level, float share, float clip, float beyond,
                                                              float slope, int shape, float offset, i64 G, i64 span, int split, float* parts, int wide) {
    int group = blockIdx.x / split;
    i64 from = group * G + blockIdx.x % split * span, to = min(from + span, (group + 1) * G);
    Group g(scale, edge, group, share);
    float r = residual ? *residual : 0, scaleSum = 0, shiftSum = 0, most = __fmul_rn(clip, g.scale);
    for (i64 i = from + 4 * threadIdx.x; i < to; i += 4 * blockDim.x) {
        int count = countOf(to, i);
        float v[4], t[4], d[4];
        get4(v, w, i, count, wide, halfW);
        get4(d, dy, i, count, wide);
        if (dscale) trits(t, v, g, shape);
        for (int k = 0; k < 4; k++) {
            bool clipped = fabsf(v[k]) > most;
            if (dscale && k < count) scaleSum += d[k] * (clipped ? (v[k] < 0 ? -beyond : beyond) : level * t[k] + offset - v[k] / g.scale);
            shiftSum += d[k];
            d[k] = __fmul_rn(d[k], __fadd_rn(clipped ? 0 : 1, r));
        }
        if (dw) give4(dw, i, d, count, wide, accW);
    }
    if (dscale) scaleSum = blockSum(scaleSum);
    if (dshift) shiftSum = blockSum(shiftSum);
    if (threadIdx.x > 0) return;
    if (split > 1) {
        parts[2 * blockIdx.x] = scaleSum, parts[2 * blockIdx.x + 1] = shiftSum;
        return;
    }
    if (dscale) put(&dscale[group], slope * scaleSum, accScale);
    if (dshift) put(&dshift[group], shiftSum, accShift);
}

extern "C" __global__ void __launch_bounds__(32) ternaryBackParts(float* dscale, int accScale, float* dshift, int accShift, const float* parts, int split, float slope) {
    const float* mine = parts + 2ll * blockIdx.x * split;
    float scaleSum = 0, shiftSum = 0;
    for (int i = LANE; i < split; i += WARP) scaleSum += mine[2 * i], shiftSum += mine[2 * i + 1];
    scaleSum = warpSum(scaleSum), shiftSum = warpSum(shiftSum);
    if (threadIdx.x > 0) return;
    if (dscale) put(&dscale[blockIdx.x], slope * scaleSum, accScale);
    if (dshift) put(&dshift[blockIdx.x], shiftSum, accShift);
}
