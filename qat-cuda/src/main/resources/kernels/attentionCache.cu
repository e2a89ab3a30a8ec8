// attentionCache.cu -- attention of one new token per sequence over its cache: o = softmax(q kᵀ / √d) v over lengths_b keys
//
// q, o (B, H·d)   k, v (B, Tmax, K·d)   lengths (B)      fp32      d ≤ 256      a length outside 1..Tmax gives NaNs
// One block of 8 warps per head and sequence. A warp takes every 8th key, a lane every 32nd element, with a running maximum
// (online softmax); at the end the eight warps' parts are added in order, so deterministic.
#include "common.cuh"

#define WARPS 8
#define EACH 8                      // elements of a head that a lane holds: 256 / WARP

extern "C" __global__ void __launch_bounds__(WARPS * WARP) attentionCache(float* o, const float* q, const float* k, const float* v,
                                                                          const int* lengths, int Tmax, int H, int K, int d, float scale) {
    __shared__ float parts[WARPS][WARP * EACH], maxima[WARPS], sums[WARPS];
    int h = blockIdx.x, b = blockIdx.y, warp = threadIdx.x / WARP, length = lengths[b];
    i64 stride = (i64) K * d, head = b * Tmax * stride + h / (H / K) * d, mine = ((i64) b * H + h) * d;
    if (length < 1 || length > Tmax) {
        for (int c = threadIdx.x; c < d; c += blockDim.x) o[mine + c] = NOT_A_NUMBER;
        return;
    }

    float query[EACH], acc[EACH] = {}, max = -INF, sum = 0;
    #pragma unroll
    for (int i = 0; i < EACH; i++) query[i] = LANE + i * WARP < d ? q[mine + LANE + i * WARP] * scale : 0;
    for (int t = warp; t < length; t += WARPS) {
        i64 at = head + t * stride + LANE;
        float s = 0;
        #pragma unroll
        for (int i = 0; i < EACH; i++) if (LANE + i * WARP < d) s = fmaf(query[i], k[at + i * WARP], s);
        s = warpSum(s);
        float top = fmaxf(max, s), shrink = expf(max - top), p = expf(s - top);
        max = top;
        sum = sum * shrink + p;
        #pragma unroll
        for (int i = 0; i < EACH; i++) if (LANE + i * WARP < d) acc[i] = acc[i] * shrink + p * v[at + i * WARP];
    }
    #pragma unroll
    for (int i = 0; i < EACH; i++) parts[warp][LANE + i * WARP] = acc[i];
    if (LANE == 0) maxima[warp] = max, sums[warp] = sum;
    __syncthreads();

    float most = maxima[0], total = 0, share[WARPS];
    for (int w = 1; w < WARPS; w++) most = fmaxf(most, maxima[w]);
    #pragma unroll
    for (int w = 0; w < WARPS; w++) share[w] = expf(maxima[w] - most), total += sums[w] * share[w];
    for (int c = threadIdx.x; c < d; c += blockDim.x) {
        float mix = 0;
        #pragma unroll
        for (int w = 0; w < WARPS; w++) mix += parts[w][c] * share[w];
        o[mine + c] = mix / total;
    }
}
