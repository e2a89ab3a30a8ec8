// compare.cu -- judges a chunk of a student's logits z against its teacher's y, with S = softmax(z), T = softmax(y)
//
//   stats_n = (−log S[target],  Σ_v T_v (log T_v − log S_v),  1 if argmax z = argmax y, the first of equal ones)
//
// z, y (rows, V) fp32   targets (rows)   stats (rows, 3): its first is 0 where target < 0, NaN where target ≥ V
// One block per row.  Fixed order, so deterministic.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(512) compare(float* stats, const float* logits, const float* tlogits, const int* targets, int V,
                                                          int wide) {
    const float *z = logits + (i64) blockIdx.x * V, *y = tlogits + (i64) blockIdx.x * V;
    int target = targets[blockIdx.x], bestS = V, bestT = V;
    RowSum student(z, V, wide), teacher(y, V, wide);
    float logS = logf(student.sum), logT = logf(teacher.sum), divergence = 0;
    for (int i = 4 * threadIdx.x; i < V; i += 4 * blockDim.x) {
        float a[4], b[4];
        get4(a, z, i, V - i, wide);
        get4(b, y, i, V - i, wide);
        for (int k = 0; k < 4; k++) if (i + k < V) {
            float ls = a[k] - student.max - logS, lt = b[k] - teacher.max - logT;
            divergence += expf(lt) * (lt - ls);
            if (a[k] == student.max) bestS = min(bestS, i + k);
            if (b[k] == teacher.max) bestT = min(bestT, i + k);
        }
    }
    divergence = blockSum(divergence), bestS = blockMin(bestS), bestT = blockMin(bestT);
    if (threadIdx.x > 0) return;
    float* out = stats + 3LL * blockIdx.x;
    out[0] = target < 0 ? 0 : target >= V ? NOT_A_NUMBER : logS - (z[target] - student.max);
    out[1] = divergence;
    out[2] = bestS == bestT;
}
