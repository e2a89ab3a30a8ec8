// rope.cu -- rotates pairs (i, i + D/2) of every head by the angle of the row's position (half-split order)
//
//   y_i = x_i cos − x_{i+D/2} sin      y_{i+D/2} = x_{i+D/2} cos + x_i sin
//   dx (+)= dy turned by the opposite angle: the same with sign = −1
//
// x, y (N, heads·D) fp32; y may be x   table (2, Tmax, half = D/2): cosines, then sines   positions (N)
// One block per row; a thread turns 4 pairs (one where D/2 is no multiple of 4).  element-wise, so deterministic.
// acc: 0 writes, 1 adds
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) rope(float* y, int acc, const float* x, const float* table, const int* positions,
                                                       float sign, int heads, int half, int Tmax, int wide) {
    int count = wide ? 4 : 1;
    i64 row = (i64) blockIdx.x * heads * 2 * half, turn = (i64) positions[blockIdx.x] * half;
    for (int pair = count * threadIdx.x; pair < heads * half; pair += count * blockDim.x) {
        i64 at = row + pair / half * 2 * half + pair % half, angle = turn + pair % half;
        float a[4], b[4], cosine[4], sine[4], left[4], right[4];
        get4(a, x, at, count, wide);
        get4(b, x, at + half, count, wide);
        get4(cosine, table, angle, count, wide);
        get4(sine, table, (i64) Tmax * half + angle, count, wide);
        for (int k = 0; k < 4; k++) {
            left[k] = a[k] * cosine[k] - b[k] * sine[k] * sign;
            right[k] = b[k] * cosine[k] + a[k] * sine[k] * sign;
        }
        give4(y, at, left, count, wide, acc);
        give4(y, at + half, right, count, wide, acc);
    }
}
