// distill.cu -- divergence of a student's chunk of logits z from its teacher's y, and its slope by z in place
//
//   S = softmax(z/τ)   T = softmax(y/τ)   M = ½ (S + T)      KL(P‖Q) = Σ P (log P − log Q)
//   F = KL(T‖S)   R = KL(S‖T)   JS = ½ KL(T‖M) + ½ KL(S‖M)
//   loss    = τ² · (jensenShannon ? JS : reverse · R + (1 − reverse) · F) − hard · log softmax(z)[target]
//
//   slope_k = τ · (jensenShannon ? ½ S_k (log S_k/M_k − KL(S‖M)) : reverse · S_k (log S_k/T_k − R) + (1 − reverse) · (S_k − T_k))
//           + hard · (softmax(z)_k − 1[k = target]),  times weight
//
// z, y (rows, V) fp32; slope in place of z: fp32, or (half) BF16 in the first half of each row   loss, targets (rows)
// loss and slope are 0 where target < 0, NaN where target ≥ V.
// One block per row: maxima and sums, then the divergence, then the slope (if `back`).  Fixed order, so deterministic.
#include "common.cuh"

// log ½ (e^a + e^b)
__device__ __forceinline__ float logMean(float a, float b) {
    float top = fmaxf(a, b);
    return top + logf(0.5f * (expf(a - top) + expf(b - top)));
}

extern "C" __global__ void __launch_bounds__(512) distill(float* loss, float* logits, const float* tlogits, const int* targets, int V,
                                                          int jensenShannon, float reverse, float hard, float tau, float weight,
                                                          int back, int half, int wide) {
    float* z = logits + (i64) blockIdx.x * V;
    const float* y = tlogits + (i64) blockIdx.x * V;
    int target = targets[blockIdx.x];
    RowSum student(z, V, wide, tau), teacher(y, V, wide, tau), plain(student);
    if (hard > 0 && tau != 1) plain = RowSum(z, V, wide);
    float logS = logf(student.sum), logT = logf(teacher.sum), logPlain = logf(plain.sum);

    float forward = 0, backward = 0;                       // KL(T‖S) and KL(S‖T), or KL(T‖M) and KL(S‖M)
    for (int i = 4 * threadIdx.x; i < V; i += 4 * blockDim.x) {
        float a[4], b[4];
        get4(a, z, i, V - i, wide);
        get4(b, y, i, V - i, wide);
        for (int k = 0; k < 4; k++) if (i + k < V) {
            float ls = (a[k] - student.max) / tau - logS, lt = (b[k] - teacher.max) / tau - logT;
            float lm = jensenShannon ? logMean(ls, lt) : 0;
            forward += expf(lt) * (lt - (jensenShannon ? lm : ls));
            backward += expf(ls) * (ls - (jensenShannon ? lm : lt));
        }
    }
    forward = blockSum(forward), backward = blockSum(backward);
    if (threadIdx.x == 0) {
        float soft = tau * tau * (jensenShannon ? (forward + backward) / 2 : reverse * backward + (1 - reverse) * forward);
        float sure = hard > 0 && 0 <= target && target < V ? hard * (logPlain - (z[target] - plain.max)) : 0;
        loss[blockIdx.x] = target < 0 ? 0 : target >= V ? NOT_A_NUMBER : soft + sure;
    }
    if (!back) return;
    __syncthreads();                                       // z[target] is read before it is overwritten
    for (int from = 0; from < V; from += 4 * blockDim.x) {
        int i = from + 4 * threadIdx.x;
        float a[4], b[4];
        if (i < V) get4(a, z, i, V - i, wide), get4(b, y, i, V - i, wide);
        if (half) __syncthreads();                         // BF16 lands on fp32 of this stretch, or of an earlier one
        if (i >= V) continue;
        for (int k = 0; k < 4; k++) {
            float ls = (a[k] - student.max) / tau - logS, lt = (b[k] - teacher.max) / tau - logT, s = expf(ls);
            float slope = jensenShannon ? s / 2 * (ls - logMean(ls, lt) - backward)
                                        : reverse * s * (ls - lt - backward) + (1 - reverse) * (s - expf(lt));
            slope *= tau;
            if (hard > 0) slope += hard * (expf(a[k] - plain.max - logPlain) - (i + k == target));
            a[k] = target < 0 ? 0 : weight * slope;
        }
        put4(z, i, a, V - i, wide, half);
    }
}
