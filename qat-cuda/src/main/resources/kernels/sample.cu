// sample.cu -- one token of every row, −1 if a logit is NaN
//
//   order     largest logit first, the lower index first of equal ones; temperature 0 takes the first and is done
//   weight    e_i = exp((l_i − l_first) / temperature), in doubles
//   top-k     the first k of the order (0: all)
//   top-p     of those the shortest beginning whose weights reach topP · their sum (1: all)
//   draw      the first kept index i, counted upwards, with Σ_{kept j ≤ i} e_j > u · Σ_kept e_j
//   u         of the first word of Philox under the seed at counter (0, keys_b)
//
// logits (B, V) fp32   keys (B, 2)   ids (B)      one block per row
// Nothing is sorted: an element's place in the order is a 64-bit number (logit, then index from the end), and where the kept
// ones end is found bit by bit, each bit by one pass over the row. Fixed order of sums, so deterministic.
#include "common.cuh"

#define MOST 512                    // threads of a block

struct Row {
    const float* logits;
    int V;
    float first, temperature;

    // larger comes earlier in the order
    __device__ unsigned long long place(int i) const {
        unsigned bits = __float_as_uint(logits[i] + 0.f);              // −0 becomes +0
        bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
        return (unsigned long long) bits << 32 | (unsigned) (V - 1 - i);
    }

    __device__ double weight(int i) const { return exp(((double) logits[i] - first) / temperature); }
};

__device__ __forceinline__ double blockTotal(double v, double* parts) {
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(FULL, v, d);
    if (LANE == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    double sum = 0;
    for (int w = 0; w < blockDim.x / WARP; w++) sum += parts[w];
    __syncthreads();
    return sum;
}

// the number of elements, or the sum of their weights, at or before place `last`
__device__ __forceinline__ double upTo(const Row& row, unsigned long long last, int count, double* parts) {
    double sum = 0;
    for (int i = threadIdx.x; i < row.V; i += blockDim.x) if (row.place(i) >= last) sum += count ? 1 : row.weight(i);
    return blockTotal(sum, parts);
}

// the first place at which the number (or weight) so far reaches `goal`, not beyond `end`
__device__ __forceinline__ unsigned long long reach(const Row& row, double goal, unsigned long long end, int count, double* parts) {
    unsigned long long last = 0;
    for (int bit = 63; bit >= 0; bit--) {
        if (bit < 32 && row.V - 1 >> bit == 0) continue;
        unsigned long long next = last | 1ull << bit;
        if (upTo(row, next < end ? end : next, count, parts) >= goal) last = next;
    }
    return last < end ? end : last;
}

extern "C" __global__ void __launch_bounds__(MOST) sample(int* ids, const float* logits, const int* keys, int V, float temperature,
                                                             int topK, float topP, int seedLow, int seedHigh) {
    __shared__ double parts[WARP], segments[MOST];
    __shared__ int hit;
    int b = blockIdx.x, broken = 0, best = V;
    Row row = { logits + (i64) b * V, V, -INF, temperature };
    for (int i = threadIdx.x; i < V; i += blockDim.x) row.first = fmaxf(row.first, row.logits[i]), broken |= row.logits[i] != row.logits[i];
    row.first = blockMax(row.first);
    broken = blockMin(-broken);
    for (int i = threadIdx.x; i < V; i += blockDim.x) if (row.logits[i] == row.first) best = min(best, i);
    best = blockMin(best);
    if (broken || temperature == 0) {
        if (threadIdx.x == 0) ids[b] = broken ? -1 : best;
        return;
    }

    unsigned long long end = 0;                                        // the place of the last one kept
    if (topK > 0 && topK < V) end = reach(row, topK, 0, 1, parts);
    if (topP < 1) end = reach(row, topP * upTo(row, end, 0, parts), end, 0, parts);

    int each = (V + blockDim.x - 1) / blockDim.x, from = threadIdx.x * each, to = min(V, from + each);
    double mine = 0;
    for (int i = from; i < to; i++) if (row.place(i) >= end) mine += row.weight(i);
    segments[threadIdx.x] = mine;
    if (threadIdx.x == 0) hit = -1;
    __syncthreads();
    unsigned word[4];
    philox(word, seedLow, seedHigh, 0, keys[2 * b], keys[2 * b + 1]);
    double total = 0, before = 0;
    for (int t = 0; t < blockDim.x; t++) total += segments[t];
    for (int t = 0; t < threadIdx.x; t++) before += segments[t];
    double goal = unit(word[0]) * total;
    if (before <= goal && before + mine > goal) {                      // true for one thread: u < 1
        for (int i = from; i < to && before <= goal; i++) {
            if (row.place(i) < end) continue;
            before += row.weight(i);
            hit = i;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) ids[b] = hit < 0 ? best : hit;
}
