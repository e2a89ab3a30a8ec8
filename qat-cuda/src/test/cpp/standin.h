// standin.h -- what the parts of the stand-in CUDA say to each other: a compiled kernel file to libcuda (Entry, Launch),
// and libcublas and libnvrtc to libcuda (submit, translate, the counters).
#pragma once
#include <stddef.h>
#include <stdint.h>

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace standin {

// Fresh device, shared and pinned memory holds this word: a quiet NaN as float, as double, as bfloat16 and as half.
constexpr uint32_t POISON = 0x7ff97ff9u;

constexpr int MAX_THREADS = 1024;
constexpr size_t STACK = 256 << 10, FENCE = 64 << 10;      // of one fiber, and how much of it, lowest, is a fence

// One launch, as libcuda hands it to a kernel file, and what the kernel file says of how it went.
struct Launch {
    dim3 grid, block;
    unsigned shared;                     // bytes of dynamic shared memory
    uint64_t seed;                       // of the order of blocks, warps and lanes
    char* stacks;                        // MAX_THREADS stacks of STACK bytes, shared by all kernel files
    int code;                            // 0, or the CUresult that the launch ends with ...
    char text[480];                      // ... and the sentence that belongs to it
};

// One extern "C" kernel of a kernel file, exported as standin_entry_NAME.
struct Entry {
    int count;                           // of parameters
    const uint8_t* sizes;                // bytes of each
    const bool* pointers;                // which of them are pointers: libcuda turns those into host addresses
    int bound;                           // threads of a block by __launch_bounds__, else MAX_THREADS
    void (*run)(Launch&, void** args);
};

enum Counter {
    LAUNCHES, GRAPH_LAUNCHES, KERNELS, GEMMS, UPLOADS, DOWNLOADS, COPIES, FILLS, UPLOADED, DOWNLOADED,
    SYNCS, ALLOCS, FREES, LIVE, PEAK, PINNED, MODULES, COMPILES,
    STALLS,                              // waits of the host behind which the device had nothing left to do
    COUNTERS
};

}  // namespace standin

#ifdef STANDIN_LIBRARY                   // kernel files do not need the rest
#include <functional>

namespace standin {
using Work = std::function<int()>;       // runs when its stream gets to it, and again at each replay of a graph

extern int64_t counters[COUNTERS];

// Puts work on a stream (or into the graph that the stream is being captured into); the answer is a CUresult.
int submit(void* stream, const Work& work);
bool capturing(void* stream);

// The host address of a device address, or null unless [device, device + bytes) lies in one live allocation.
char* translate(uint64_t device, size_t bytes);
}
#endif
