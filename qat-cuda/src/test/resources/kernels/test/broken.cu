// broken.cu -- does not compile, so that a test can read what is said then

#include "common.cuh"

extern "C" __global__ void broken(float* y) {
    y[0] = undeclared;
}
