// lsq.cu -- learned step size quantization (Esser et al., arXiv 1902.08153), qn = −2^(b−1), qp = 2^(b−1) − 1
//
//   v  = w / s
//   y  = s · rint(clamp(v, qn, qp))
//
//   dw    (+)= dy · 1[qn ≤ v ≤ qp]                                              straight-through
//   dstep (+)= Σ_group dy · (rint(v) − v inside; qn below; qp above) / √(G·qp)
//
// w, y (groups · G) fp32 or BF16   step, dstep (groups), dw, dy (groups · G) fp32; dw may be dy
// acc: 0 writes, 1 adds; a null gradient is skipped
// A group is cut into `slices` of `span` elements (one, unless few groups are long), and `lanes` neighbouring threads share a
// slice; lsqBackParts adds up the slices. Values are one rounding per operation: the same bits as the reference. Sums are taken
// in a fixed order.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) lsq(void* y, int halfY, const void* w, int halfW, const float* step, float qn, float qp,
                                                      int groups, i64 G, int slices, i64 span, int lanes, int wide) {
    int slice = groupOf(lanes), group = slice / slices;
    if (group >= groups) return;
    float s = step[group];
    i64 from = (i64) (slice % slices) * span, to = from + span < G ? from + span : G;
    for (i64 i = from + 4 * (threadIdx.x % lanes); i < to; i += 4 * lanes) {
        int count = countOf(to, i);
        float v[4];
        get4(v, w, (i64) group * G + i, count, wide, halfW);
        for (int k = 0; k < 4; k++) v[k] = s * rintf(clamp(v[k] / s, qn, qp));
        put4(y, (i64) group * G + i, v, count, wide, halfY);
    }
}

extern "C" __global__ void __launch_bounds__(256) lsqBack(float* dw, int accW, float* dstep, int accStep, float factor, const float* dy,
                                                          const void* w, int halfW, const float* step, float qn, float qp,
                                                          int groups, i64 G, int slices, i64 span, int lanes, int wide) {
    int slice = groupOf(lanes), group = slice / slices;
    float total = 0;
    if (group < groups) {
        float s = step[group];
        i64 from = (i64) (slice % slices) * span, to = from + span < G ? from + span : G;
        for (i64 i = from + 4 * (threadIdx.x % lanes); i < to; i += 4 * lanes) {
            int count = countOf(to, i);
            float v[4], d[4];
            get4(v, w, (i64) group * G + i, count, wide, halfW);
            get4(d, dy, (i64) group * G + i, count, wide);
            for (int k = 0; k < 4; k++) {
                float x = v[k] / s;
                total += d[k] * (x < qn ? qn : x > qp ? qp : rintf(x) - x);
                if (x < qn || x > qp) d[k] *= 0;
            }
            if (dw) give4(dw, (i64) group * G + i, d, count, wide, accW);
        }
    }
    total = lanesSum(total, lanes);
    if (dstep && group < groups && threadIdx.x % lanes == 0) put(&dstep[slice], total * factor, accStep);
}

extern "C" __global__ void __launch_bounds__(256) lsqBackParts(float* dstep, int acc, const float* part, int slices) {
    float total = 0;
    for (int i = threadIdx.x; i < slices; i += blockDim.x) total += part[(i64) blockIdx.x * slices + i];
    total = blockSum(total);
    if (threadIdx.x == 0) put(&dstep[blockIdx.x], total, acc);
}
