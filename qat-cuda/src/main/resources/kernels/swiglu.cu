// swiglu.cu -- y = silu(gate) · up,  silu(g) = g σ(g),  σ(g) = 1 / (1 + e^−g)
//
//   dgate (+)= dy · up · σ · (1 + gate · (1 − σ))      dup (+)= dy · gate · σ
//
// all (n) fp32, y also BF16 for the product that reads it; dgate and dup may be dy, gate or up
// One thread per 4 elements.  Element-wise, so deterministic.
// acc: 0 writes, 1 adds; a null gradient is skipped
#include "common.cuh"

extern "C" __global__ void swiglu(void* y, int half, const float* gate, const float* up, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float g[4], u[4];
    get4(g, gate, i, count, wide);
    get4(u, up, i, count, wide);
    for (int k = 0; k < 4; k++) u[k] *= g[k] / (1 + expf(-g[k]));
    put4(y, i, u, count, wide, half);
}

extern "C" __global__ void swigluBack(float* dgate, int accGate, float* dup, int accUp, const float* dy, const float* gate,
                                      const float* up, i64 n, int wide) {
    i64 i = 4 * globalThread();
    if (i >= n) return;
    int count = countOf(n, i);
    float d[4], g[4], u[4];
    get4(d, dy, i, count, wide);
    get4(g, gate, i, count, wide);
    get4(u, up, i, count, wide);
    for (int k = 0; k < 4; k++) {
        float sigmoid = 1 / (1 + expf(-g[k]));
        u[k] = d[k] * u[k] * sigmoid * (1 + g[k] * (1 - sigmoid));
        g[k] = d[k] * g[k] * sigmoid;
    }
    if (dgate) give4(dgate, i, u, count, wide, accGate);
    if (dup) give4(dup, i, g, count, wide, accUp);
}
