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
// ones end is found four bits at a time, from the top: a pass over the row adds what begins with the bits found so far into
// sixteen sums, one per next digit, and only those few need their weight. The draw goes down from a warp's share to a thread's
// to an element. Fixed order of sums, so deterministic.
#include "common.cuh"

#define MOST 512                    // threads of a block
#define DIGITS 16
#define DIGIT_BITS 4

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

// the sum of the weights at or before place `end`
__device__ __forceinline__ double kept(const Row& row, unsigned long long end, double* parts) {
    double sum = 0;
    for (int i = threadIdx.x; i < row.V; i += blockDim.x) if (row.place(i) >= end) sum += row.weight(i);
    return blockTotal(sum, parts);
}

// totals[d] = Σ over the places not beyond `end` that have the bits of `found` above `shift` and there the digit d
__device__ __forceinline__ void addDigits(double* totals, double* parts, const Row& row, unsigned long long found, int shift,
                                          unsigned long long end, int count) {
    double sums[DIGITS] = {};
    for (int i = threadIdx.x; i < row.V; i += blockDim.x) {
        unsigned long long place = row.place(i), off = (place ^ found) >> shift;
        if (place < end || off >= DIGITS) continue;                    // found has zeros from the digit on
        double w = count ? 1 : row.weight(i);
        #pragma unroll
        for (int d = 0; d < DIGITS; d++) sums[d] += off == d ? w : 0;
    }
    #pragma unroll
    for (int d = 0; d < DIGITS; d++) {
        for (int l = WARP / 2; l > 0; l /= 2) sums[d] += __shfl_xor_sync(FULL, sums[d], l);
        if (LANE == 0) parts[threadIdx.x / WARP * DIGITS + d] = sums[d];
    }
    __syncthreads();
    if (threadIdx.x < DIGITS) {
        double sum = 0;
        for (int w = 0; w < blockDim.x / WARP; w++) sum += parts[w * DIGITS + threadIdx.x];
        totals[threadIdx.x] = sum;
    }
    __syncthreads();
}

// the first place at which the number (or weight) so far reaches `goal`, not beyond `end`
__device__ __forceinline__ unsigned long long reach(const Row& row, double goal, unsigned long long end, int count, double* totals, double* parts) {
    unsigned long long found = 0;
    double above = 0;                                                  // of all places earlier than those that begin with `found`
    for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        if (shift < 32 && row.V - 1 >> shift == 0) continue;           // an index has no such digits
        addDigits(totals, parts, row, found, shift, end, count);
        int digit = 0;
        double sum = above;
        for (int d = DIGITS - 1; d >= 0 && sum < goal; d--) {
            if (totals[d] == 0) continue;
            digit = d;
            above = sum;
            sum += totals[d];
        }
        found |= (unsigned long long) digit << shift;
    }
    return found < end ? end : found;
}

extern "C" __global__ void __launch_bounds__(MOST) sample(int* ids, const float* logits, const int* keys, int V, float temperature,
                                                             int topK, float topP, int seedLow, int seedHigh) {
    __shared__ double parts[MOST / WARP * DIGITS], totals[DIGITS], segments[MOST];
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
    if (topK > 0 && topK < V) end = reach(row, topK, 0, 1, totals, parts);
    if (topP < 1) end = reach(row, topP * kept(row, end, parts), end, 0, totals, parts);

    int each = (V + blockDim.x - 1) / blockDim.x, from = threadIdx.x * each, to = min(V, from + each), warps = blockDim.x / WARP;
    double mine = 0;
    for (int i = from; i < to; i++) if (row.place(i) >= end) mine += row.weight(i);
    segments[threadIdx.x] = mine;
    __syncthreads();
    if (LANE == 0) {
        double sum = 0;
        for (int l = 0; l < WARP; l++) sum += segments[threadIdx.x + l];
        parts[threadIdx.x / WARP] = sum;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    unsigned word[4];
    philox(word, seedLow, seedHigh, 0, keys[2 * b], keys[2 * b + 1]);
    double total = 0, before = 0;
    for (int w = 0; w < warps; w++) total += parts[w];
    double goal = unit(word[0]) * total;
    int w = 0, hit = best;
    while (w < warps - 1 && before + parts[w] <= goal) before += parts[w++];
    int t = w * WARP, lastLane = t + WARP - 1;
    while (t < lastLane && before + segments[t] <= goal) before += segments[t++];
    for (int i = t * each; i < V && before <= goal; i++) {
        if (row.place(i) < end) continue;
        before += row.weight(i);
        hit = i;
    }
    ids[b] = hit;
}
