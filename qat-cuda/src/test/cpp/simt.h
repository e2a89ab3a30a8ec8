// simt.h -- runs the kernels of a .cu file on the CPU, so that tests can execute the very text that NVRTC compiles.
//
// One fiber per CUDA thread. A thread runs until it meets a barrier or a warp operation, then the next one runs, in an
// order drawn from the launch's seed (blocks of the grid, warps of the block, lanes of the warp), drawn anew at every
// __syncthreads. A forgotten barrier therefore shows as another result under another seed. A block whose kernel never
// waits runs its threads as a plain loop on one fiber. Shared memory is poisoned with NaNs before every block.
//
// Found out and reported with the kernel's line: threads of a block at different __syncthreads, lanes that wait for
// lanes which cannot come, misaligned accesses (16-byte ones included), indices beyond an array's declared bounds,
// writes beyond dynamic shared memory, cp.async and ldmatrix on the wrong kind of memory.
//
// What it cannot see: races inside one run between two waiting points (threads are never preempted there), orders that
// only weak memory would show (a missing __threadfence), bank conflicts, divergence, registers, time. A tensor-core
// product is summed in fp32 from k = 0 upwards, while hardware sums in an order of its own. exp2f and the like are the
// C library's, a unit in the last place away from the device's. A clean run is evidence, never proof.
#pragma once
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <type_traits>
#include <utility>
#if !defined(__x86_64__) || defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT 1
#include <ucontext.h>
#endif
#include "standin.h"

// ---- the language -------------------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static __attribute__((section("simt_shared")))   // one section, poisoned as a whole per block
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define SIMT_VECTOR2(T, N, A) struct alignas(A) N##2 { T x, y; }; \
    static inline N##2 make_##N##2(T x, T y) { return {x, y}; }
#define SIMT_VECTOR3(T, N) struct N##3 { T x, y, z; }; \
    static inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }
#define SIMT_VECTOR4(T, N, A) struct alignas(A) N##4 { T x, y, z, w; }; \
    static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SIMT_VECTOR2(float, float, 8)         SIMT_VECTOR3(float, float)   SIMT_VECTOR4(float, float, 16)
SIMT_VECTOR2(int, int, 8)             SIMT_VECTOR3(int, int)       SIMT_VECTOR4(int, int, 16)
SIMT_VECTOR2(unsigned, uint, 8)       SIMT_VECTOR3(unsigned, uint) SIMT_VECTOR4(unsigned, uint, 16)
SIMT_VECTOR2(short, short, 4)         SIMT_VECTOR4(short, short, 8)
SIMT_VECTOR2(unsigned short, ushort, 4) SIMT_VECTOR4(unsigned short, ushort, 8)
SIMT_VECTOR2(signed char, char, 2)    SIMT_VECTOR4(signed char, char, 4)
SIMT_VECTOR2(unsigned char, uchar, 2) SIMT_VECTOR4(unsigned char, uchar, 4)
SIMT_VECTOR2(long long, longlong, 16) SIMT_VECTOR2(unsigned long long, ulonglong, 16)
SIMT_VECTOR2(double, double, 16)

// ---- fibers -------------------------------------------------------------------------------------------------------

extern "C" __attribute__((weak, visibility("hidden"))) char __start_simt_shared[], __stop_simt_shared[];

namespace simt {
using standin::Launch;
using standin::MAX_THREADS;

#ifndef SIMT_UCONTEXT
// The callee-saved registers go to the old stack and come from the new one: no system call, unlike swapcontext.
// The upper halves of vector registers are cleared: left dirty, they slow the C library's SSE functions tenfold.
#ifdef __AVX__
#define SIMT_CLEAN "vzeroupper\n"
#else
#define SIMT_CLEAN
#endif
struct Context { void* sp; };
extern "C" void simt_switch(Context* from, Context* to);
asm(R"(
    .pushsection .text
    .local simt_switch
    .type simt_switch, @function
simt_switch:
)" SIMT_CLEAN R"(
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size simt_switch, . - simt_switch
    .popsection
)");
static void begin(Context& c, char* stack, size_t bytes, void (*entry)()) {
    void** top = (void**) ((uintptr_t) (stack + bytes) & ~(uintptr_t) 15);
    *--top = nullptr;                        // where a caller's return address would lie
    *--top = (void*) entry;
    c.sp = top - 6;                          // six registers, whatever they hold
}
#else
struct Context { ucontext_t u; };
static void simt_switch(Context* from, Context* to) { swapcontext(&from->u, &to->u); }
static void begin(Context& c, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&c.u);
    c.u.uc_stack.ss_sp = stack;
    c.u.uc_stack.ss_size = bytes & ~(size_t) 15;
    c.u.uc_link = nullptr;
    makecontext(&c.u, entry, 0);
}
#endif

struct Packet { uint32_t w[10]; };           // what a lane brings to a warp operation; an mma's fragments are the most

struct Warp {
    uint32_t alive, ready, parked, waiting;  // lanes not ended, able to run, at the barrier, in a warp operation
    uint8_t order[32];                       // the order in which lanes get to run
    unsigned at;                             // position in that order
    uint32_t mask[32], group[32];            // by lane: the mask it asked for, the lanes it finally met
    void (*work[32])(Warp&, uint32_t);       // by lane: the operation it stands in
    Packet in[32], out[32];
};

struct Copy { void* to; const void* from; bool valid; };
struct Copies { Copy list[64]; int count, ends[16], groups; };     // one thread's cp.async copies, not yet done

static Launch* launch;
static void (*body)();                       // the kernel with its arguments
static void** args;
static dim3 grid, block, bid, tid;
static dim3 index[MAX_THREADS];
static Warp warps[MAX_THREADS / 32];
static uint8_t turns[MAX_THREADS / 32];      // the order in which warps get to run
static int warpCount, turn, threads, alive, arrived, self;
static const char* siteFile;                 // the __syncthreads that the block is gathering at
static int siteLine;
static Context home, fibers[MAX_THREADS];
static int fiberOf[MAX_THREADS], spare[MAX_THREADS], spares, begun;   // fiberOf: -1 while a thread has none
static Copies copies[MAX_THREADS];
static uint64_t dice;

alignas(1024) static char dynamic[(228 << 10) + 256];              // dynamic shared memory and its guard
constexpr char GUARD = 0x5a;

static inline uint32_t roll(uint32_t n) {                          // 0 .. n - 1
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return (uint32_t) ((dice >> 32) * n >> 32);
}

static void deal(uint8_t* order, int n) {                          // a random permutation of 0 .. n - 1
    for (int i = 0; i < n; i++) {
        int j = roll(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

// Ends the launch here and now: every fiber is abandoned where it stands.
[[noreturn]] __attribute__((noinline, cold, format(printf, 2, 3))) static void fail(int code, const char* format, ...) {
    va_list list;
    va_start(list, format);
    int n = snprintf(launch->text, sizeof launch->text, "block (%u, %u, %u) thread (%u, %u, %u): ",
                     bid.x, bid.y, bid.z, tid.x, tid.y, tid.z);
    vsnprintf(launch->text + n, sizeof launch->text - n, format, list);
    va_end(list);
    launch->code = code;
    Context lost;
    simt_switch(&lost, &home);
    __builtin_unreachable();
}
enum { ILLEGAL_ADDRESS = 700, MISALIGNED = 716, ILLEGAL_INSTRUCTION = 715, FAILED = 719 };

static int pick() {                                                // the next thread that can run, or -1
    for (int i = 0; i <= warpCount; i++) {
        Warp& w = warps[turns[turn]];
        if (w.ready) for (;;) {
            int lane = w.order[w.at++ % 32];
            if (w.ready >> lane & 1) {
                w.ready &= ~(1u << lane);
                return turns[turn] * 32 + lane;
            }
        }
        turn = turn + 1 == warpCount ? 0 : turn + 1;
    }
    return -1;
}

static inline void become(int t) {
    self = t;
    tid = index[t];
}

__attribute__((noinline, cold)) static void stuck() {
    for (int i = 0; i < warpCount; i++) for (int lane = 0; lane < 32; lane++) if (warps[i].waiting >> lane & 1) {
        Warp& w = warps[i];
        become(i * 32 + lane);
        fail(FAILED, "a warp operation with mask %08x waits for lanes %08x, which %s", w.mask[lane],
             w.mask[lane] & w.alive & ~w.waiting, w.parked ? "wait at __syncthreads" : "never come");
    }
    fail(FAILED, "the threads of a block wait for one another");
}

static void fiber();

static int takeFiber() {
    if (spares > 0) return spare[--spares];
    int i = begun++;
    // Tops lie apart by more than a page, or all hot stack lines would share a few cache sets.
    begin(fibers[i], launch->stacks + i * standin::STACK, standin::STACK - i * 320 % 4096, fiber);
    return i;
}

static void yield() {
    int t = pick(), mine = fiberOf[self];
    if (t == self) return;
    if (t < 0) stuck();
    if (fiberOf[t] < 0) fiberOf[t] = takeFiber();
    become(t);
    simt_switch(&fibers[mine], &fibers[fiberOf[t]]);
}

static void openBarrier() {
    for (int i = 0; i < warpCount; i++) {
        warps[i].ready |= warps[i].parked;
        warps[i].parked = 0;
        deal(warps[i].order, 32);
    }
    deal(turns, warpCount);
    arrived = 0;
}

__attribute__((noinline)) static void barrier(const char* file, int line) {
    if (arrived == 0) siteFile = file, siteLine = line;
    else if (siteLine != line || (siteFile != file && strcmp(siteFile, file)))
        fail(FAILED, "waits at the __syncthreads of %s:%d while others of its block wait at %s:%d",
             file, line, siteFile, siteLine);
    warps[self / 32].parked |= 1u << self % 32;
    if (++arrived == alive) openBarrier();
    yield();
}

// Does the operation that this lane waits in, once all living lanes of its mask have come: the last one works for all.
static bool gathered(Warp& w, int lane) {
    uint32_t group = w.mask[lane] & w.alive;
    if ((w.waiting & group) != group) return false;
    for (uint32_t rest = group; rest; rest &= rest - 1) {
        int l = __builtin_ctz(rest);
        if (w.mask[l] != w.mask[lane] || w.work[l] != w.work[lane])
            fail(FAILED, "lanes %d and %d meet in different warp operations (masks %08x and %08x)",
                 lane, l, w.mask[lane], w.mask[l]);
        w.group[l] = group;
    }
    w.work[lane](w, group);
    w.waiting &= ~group;
    w.ready |= group;
    return true;
}

static inline Warp& warp() { return warps[self / 32]; }
static inline int laneOf() { return self % 32; }

__attribute__((noinline)) static void meet(uint32_t mask, void (*work)(Warp&, uint32_t)) {
    Warp& w = warp();
    int lane = laneOf();
    if (!(mask >> lane & 1)) fail(FAILED, "the mask %08x of a warp operation leaves out its own lane %d", mask, lane);
    w.mask[lane] = mask;
    w.work[lane] = work;
    w.waiting |= 1u << lane;
    if (gathered(w, lane)) w.ready &= ~(1u << lane);               // the last one goes on without a pause
    else yield();
}

// The running thread ends: whoever waited for it alone goes on. Answers who runs next, -1 when the block is through.
static int finish() {
    Warp& w = warp();
    w.alive &= ~(1u << laneOf());
    copies[self].count = copies[self].groups = 0;
    if (--alive == 0) return -1;
    for (int lane = 0; lane < 32; lane++) if (w.waiting >> lane & 1) gathered(w, lane);
    if (arrived > 0 && arrived == alive) openBarrier();
    int t = pick();
    if (t < 0) stuck();
    return t;
}

static void fiber() {                                              // runs threads for as long as there are any to start
    for (;;) {
        body();
        int t = finish(), mine = fiberOf[self];
        fiberOf[self] = -1;
        if (t >= 0 && fiberOf[t] < 0) {
            fiberOf[t] = mine;
            become(t);
            continue;
        }
        spare[spares++] = mine;
        if (t >= 0) become(t);
        simt_switch(&fibers[mine], t >= 0 ? &fibers[fiberOf[t]] : &home);
    }
}

static void poison(char* from, size_t bytes) {
    for (size_t i = 0; i + 4 <= bytes; i += 4) memcpy(from + i, &standin::POISON, 4);
    memcpy(from + bytes / 4 * 4, &standin::POISON, bytes % 4);
}

static void runBlock() {
    poison(__start_simt_shared, __stop_simt_shared - __start_simt_shared);
    poison(dynamic, launch->shared);
    for (int i = 0; i < warpCount; i++) {
        int n = threads - 32 * i;
        Warp& w = warps[i];
        w.alive = w.ready = n >= 32 ? ~0u : (1u << n) - 1;
        w.parked = w.waiting = 0;
        deal(w.order, 32);
    }
    deal(turns, warpCount);
    alive = threads;
    arrived = turn = 0;
    int t = pick();
    fiberOf[t] = takeFiber();
    become(t);
    simt_switch(&home, &fibers[fiberOf[t]]);
    if (launch->code == 0) for (char* g = dynamic + launch->shared; g < dynamic + launch->shared + 256; g++)
        if (*g != GUARD) {
            launch->code = ILLEGAL_ADDRESS;
            snprintf(launch->text, sizeof launch->text, "block (%u, %u, %u): a write %d bytes beyond the %u bytes of "
                     "dynamic shared memory", bid.x, bid.y, bid.z, (int) (g - dynamic - launch->shared), launch->shared);
            return;
        }
}

static void runGrid(Launch& l, void** a, void (*b)()) {
    launch = &l, args = a, body = b, grid = l.grid, block = l.block;
    dice = l.seed * 0x9e3779b97f4a7c15u | 1;
    for (int i = 0; i < 8; i++) roll(2);
    threads = block.x * block.y * block.z;
    warpCount = (threads + 31) / 32;
    for (int i = 0; i < threads; i++) index[i] = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    spares = begun = 0;                      // other kernel files have used the stacks since, or a launch broke off
    for (int i = 0; i < threads; i++) fiberOf[i] = -1, copies[i].count = copies[i].groups = 0;
    memset(dynamic + l.shared, GUARD, 256);
    uint64_t blocks = (uint64_t) grid.x * grid.y * grid.z, span = 1;
    while (span < blocks) span *= 2;
    uint64_t odd = dice | 1, start = dice >> 20;                   // an affine walk visits every block once
    for (uint64_t i = 0; i < span; i++) {
        uint64_t n = (i * odd + start) & (span - 1);
        if (n >= blocks) continue;
        bid = {(unsigned) (n % grid.x), (unsigned) (n / grid.x % grid.y), (unsigned) (n / grid.x / grid.y)};
        runBlock();
        if (l.code) return;
    }
}

template <class... A> struct Signature {
    static constexpr uint8_t sizes[] = {sizeof(A)..., 0};
    static constexpr bool pointers[] = {std::is_pointer_v<A>..., false};
    template <void (*K)(A...), size_t... I> static void call(std::index_sequence<I...>) { K(*(A*) args[I]...); }
    template <void (*K)(A...)> static void all() { call<K>(std::index_sequence_for<A...>{}); }
    template <void (*K)(A...)> static void run(Launch& l, void** a) { runGrid(l, a, all<K>); }
    template <void (*K)(A...)> static constexpr standin::Entry entry(int bound, int = 0) {
        return {sizeof...(A), sizes, pointers, bound, run<K>};
    }
};
template <class... A> Signature<A...> signature(void (*)(A...));

static void bring(const Copy& c) {
    if (c.valid) memcpy(c.to, c.from, 16);
    else memset(c.to, 0, 16);
}

static inline bool isShared(const void* p) {
    const char* c = (const char*) p;
    return (c >= __start_simt_shared && c < __stop_simt_shared) || (c >= dynamic && c < dynamic + launch->shared);
}

// ---- warp operations ----------------------------------------------------------------------------------------------

static void swap8(Warp& w, uint32_t group) {
    for (; group; group &= group - 1) memcpy(&w.out[__builtin_ctz(group)], &w.in[__builtin_ctz(group)], 8);
}

template <class T> static T shuffle(uint32_t mask, T v, int from) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    Warp& w = warp();
    int lane = laneOf();
    memcpy(&w.in[lane], &v, sizeof v);
    meet(mask, swap8);
    uint32_t lost[2] = {standin::POISON, standin::POISON};         // a lane that took no part has nothing to give
    memcpy(&v, w.group[lane] >> from & 1 ? (void*) &w.out[from] : lost, sizeof v);
    return v;
}

static void vote(Warp& w, uint32_t group) {
    uint32_t yes = 0;
    for (uint32_t rest = group; rest; rest &= rest - 1) yes |= w.in[__builtin_ctz(rest)].w[0] << __builtin_ctz(rest);
    for (; group; group &= group - 1) w.out[__builtin_ctz(group)].w[0] = yes;
}

static void nothing(Warp&, uint32_t) {}

static inline float low(uint32_t pair) { uint32_t u = pair << 16; float f; memcpy(&f, &u, 4); return f; }
static inline float high(uint32_t pair) { uint32_t u = pair & 0xffff0000u; float f; memcpy(&f, &u, 4); return f; }

// D (16, 8) = A (16, 16) B (16, 8) + C in the fragment layout of mma.m16n8k16: with g = lane / 4 and t = lane % 4 a lane
// holds A[g | g + 8][2t, 2t + 1 | + 8], B[2t, 2t + 1 | + 8][g] and C[g | g + 8][2t, 2t + 1].
static void multiply(Warp& w, uint32_t group) {
    if (group != ~0u) fail(FAILED, "an mma wants all 32 lanes, %08x came", group);
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const uint32_t* in = w.in[lane].w;
        int g = lane / 4, t = lane % 4 * 2;
        for (int r = 0; r < 4; r++) {
            a[g + r % 2 * 8][t + r / 2 * 8] = low(in[r]);
            a[g + r % 2 * 8][t + r / 2 * 8 + 1] = high(in[r]);
        }
        for (int r = 0; r < 2; r++) {
            b[t + r * 8][g] = low(in[4 + r]);
            b[t + r * 8 + 1][g] = high(in[4 + r]);
            memcpy(&d[g + r * 8][t], &in[6 + 2 * r], 8);
        }
    }
    for (int i = 0; i < 16; i++) for (int k = 0; k < 16; k++) for (int j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < 32; lane++)
        for (int r = 0; r < 2; r++) memcpy(&w.out[lane].w[2 * r], &d[lane / 4 + r * 8][lane % 4 * 2], 8);
}

static const char* row(Warp& w, int lane) {
    const char* p;
    memcpy(&p, &w.in[lane], 8);
    if ((uintptr_t) p % 16) fail(MISALIGNED, "ldmatrix: lane %d names a row that is not 16-byte aligned", lane);
    if (!isShared(p)) fail(ILLEGAL_ADDRESS, "ldmatrix: lane %d names a row outside shared memory", lane);
    return p;
}

// Four 8x8 matrices of 16-bit values: lane 8m + r names row r of matrix m; a lane gets row lane / 4, columns
// 2 (lane % 4) and + 1, or with transposed the same place of each matrix' transpose.
template <bool transposed> static void loadMatrices(Warp& w, uint32_t group) {
    if (group != ~0u) fail(FAILED, "ldmatrix wants all 32 lanes, %08x came", group);
    for (int lane = 0; lane < 32; lane++) for (int m = 0; m < 4; m++) {
        int g = lane / 4, t = lane % 4 * 2;
        uint16_t pair[2];
        for (int i = 0; i < 2; i++)
            memcpy(&pair[i], row(w, 8 * m + (transposed ? t + i : g)) + 2 * (transposed ? g : t + i), 2);
        memcpy(&w.out[lane].w[m], pair, 4);
    }
}
}  // namespace simt

#define threadIdx (simt::tid)
#define blockIdx (simt::bid)
#define blockDim (simt::block)
#define gridDim (simt::grid)
#define warpSize 32

#define __syncthreads() simt::barrier(__FILE__, __LINE__)
static inline void __syncwarp(unsigned mask = ~0u) { simt::meet(mask, simt::nothing); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
[[noreturn]] static inline void __trap() { simt::fail(simt::ILLEGAL_INSTRUCTION, "__trap"); }

template <class T> static T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    return simt::shuffle(mask, v, (simt::laneOf() & -width) | (from & (width - 1)));
}
template <class T> static T __shfl_xor_sync(unsigned mask, T v, int d, int width = 32) {
    int lane = simt::laneOf(), from = lane ^ d;
    return simt::shuffle(mask, v, from <= (lane | (width - 1)) ? from : lane);
}
template <class T> static T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32) {
    int lane = simt::laneOf(), from = lane + d;
    return simt::shuffle(mask, v, from <= (lane | (width - 1)) ? from : lane);
}
template <class T> static T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32) {
    int lane = simt::laneOf(), from = lane - (int) d;
    return simt::shuffle(mask, v, from >= (lane & -width) ? from : lane);
}
static inline unsigned __ballot_sync(unsigned mask, int yes) {
    simt::warp().in[simt::laneOf()].w[0] = yes != 0;
    simt::meet(mask, simt::vote);
    return simt::warp().out[simt::laneOf()].w[0];
}
static inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
static inline int __all_sync(unsigned mask, int yes) {
    unsigned all = __ballot_sync(mask, yes);
    return all == simt::warp().group[simt::laneOf()];
}

// ---- the twins of common.cuh's inline PTX --------------------------------------------------------------------------

static inline uint4 load16nc(const void* p) {
    if (simt::isShared(p)) simt::fail(simt::ILLEGAL_ADDRESS, "ld.global.nc on shared memory");
    return *(const uint4*) p;
}

static inline unsigned packBf16(float lo, float hi) {
    auto round = [](float f) -> unsigned {
        unsigned u;
        memcpy(&u, &f, 4);
        return f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
    };
    return round(lo) | round(hi) << 16;
}

static inline void mma16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    uint32_t* in = simt::warp().in[simt::laneOf()].w;
    memcpy(in, a, 16), memcpy(in + 4, b, 8), memcpy(in + 6, d, 16);
    simt::meet(~0u, simt::multiply);
    memcpy(d, simt::warp().out[simt::laneOf()].w, 16);
}
static inline void ldmatrix4(unsigned (&r)[4], const void* row) {
    memcpy(&simt::warp().in[simt::laneOf()], &row, 8);
    simt::meet(~0u, simt::loadMatrices<false>);
    memcpy(r, simt::warp().out[simt::laneOf()].w, 16);
}
static inline void ldmatrix4t(unsigned (&r)[4], const void* row) {
    memcpy(&simt::warp().in[simt::laneOf()], &row, 8);
    simt::meet(~0u, simt::loadMatrices<true>);
    memcpy(r, simt::warp().out[simt::laneOf()].w, 16);
}

// A copy is done at once or as late as the program allows, at the wait for its group, as the dice say: a place read too
// early is still poison, and a place handed out too early is overwritten.
static inline void cpAsync16(void* to, const void* from, bool valid = true) {
    simt::Copies& c = simt::copies[simt::self];
    if (((uintptr_t) to | (uintptr_t) from) % 16) simt::fail(simt::MISALIGNED, "cp.async: not 16-byte aligned");
    if (!simt::isShared(to) || simt::isShared(from))
        simt::fail(simt::ILLEGAL_ADDRESS, "cp.async copies from global to shared memory");
    if (simt::roll(2)) {
        simt::bring({to, from, valid});
        return;
    }
    if (c.count == 64) simt::fail(simt::FAILED, "cp.async: the stand-in keeps 64 copies of a thread in flight");
    c.list[c.count++] = {to, from, valid};
}
static inline void cpAsyncCommit() {
    simt::Copies& c = simt::copies[simt::self];
    if (c.groups == 16) simt::fail(simt::FAILED, "cp.async: the stand-in keeps 16 groups of a thread in flight");
    c.ends[c.groups++] = c.count;
}
template <int N> static void cpAsyncWait() {
    simt::Copies& c = simt::copies[simt::self];
    int due = c.groups - N;
    if (due <= 0) return;
    int end = c.ends[due - 1];
    for (int i = 0; i < end; i++) simt::bring(c.list[i]);
    c.count -= end, c.groups -= due;
    memmove(c.list, c.list + end, c.count * sizeof(simt::Copy));
    for (int i = 0; i < c.groups; i++) c.ends[i] = c.ends[i + due] - end;
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------

template <class To, class From> static inline To simtBits(From f) { To t; memcpy(&t, &f, sizeof t); return t; }
static inline unsigned __float_as_uint(float f) { return simtBits<unsigned>(f); }
static inline int __float_as_int(float f) { return simtBits<int>(f); }
static inline float __uint_as_float(unsigned u) { return simtBits<float>(u); }
static inline float __int_as_float(int i) { return simtBits<float>(i); }
static inline long long __double_as_longlong(double d) { return simtBits<long long>(d); }
static inline double __longlong_as_double(long long l) { return simtBits<double>(l); }

static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float __frsqrt_rn(float x) { return (float) (1 / sqrt((double) x)); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fdividef(float a, float b) { return a / b; }
// As a device does it, in two instructions: a NaN loses. (The C library's are calls.)
static inline float simtMin(float a, float b) { return a < b || b != b ? a : b; }
static inline float simtMax(float a, float b) { return a > b || b != b ? a : b; }
#define fminf simtMin
#define fmaxf simtMax
#define __expf expf                      // macros: the C library has (other) functions of these names
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0), 1); }
static inline int __float2int_rn(float x) {
    return x != x ? 0 : x >= 2147483648.f ? 2147483647 : x <= -2147483648.f ? -2147483647 - 1 : (int) rintf(x);
}
static inline int __float2int_rz(float x) { return __float2int_rn(truncf(x)); }
static inline int __float2int_rd(float x) { return __float2int_rn(floorf(x)); }
static inline int __float2int_ru(float x) { return __float2int_rn(ceilf(x)); }
static inline float __int2float_rn(int i) { return (float) i; }
static inline float __uint2float_rn(unsigned i) { return (float) i; }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long) a * b >> 32; }
static inline int __mulhi(int a, int b) { return (long long) a * b >> 32; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128) a * b >> 64;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s) {
    return (((unsigned long long) hi << 32 | lo) << (s & 31)) >> 32;
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) {
    return ((unsigned long long) hi << 32 | lo) >> (s & 31);
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    unsigned long long both = (unsigned long long) y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned) (both >> 8 * (s >> 4 * i & 7) & 255) << 8 * i;
    return r;
}
template <class T> static inline T __ldg(const T* p) { return *p; }

#define SIMT_LEAST(T) static inline T min(T a, T b) { return b < a ? b : a; } \
    static inline T max(T a, T b) { return a < b ? b : a; }
SIMT_LEAST(int) SIMT_LEAST(unsigned) SIMT_LEAST(long) SIMT_LEAST(unsigned long)
SIMT_LEAST(long long) SIMT_LEAST(unsigned long long)
static inline unsigned min(int a, unsigned b) { return min((unsigned) a, b); }
static inline unsigned min(unsigned a, int b) { return min(a, (unsigned) b); }
static inline unsigned max(int a, unsigned b) { return max((unsigned) a, b); }
static inline unsigned max(unsigned a, int b) { return max(a, (unsigned) b); }
static inline long long min(int a, long long b) { return min((long long) a, b); }
static inline long long min(long long a, int b) { return min(a, (long long) b); }
static inline long long max(int a, long long b) { return max((long long) a, b); }
static inline long long max(long long a, int b) { return max(a, (long long) b); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

// Integer atomics only. On floats the order of additions would change the bits from run to run: the house has none.
#define SIMT_ATOMICS(T) \
    static inline T atomicAdd(T* p, T v) { T old = *p; *p = old + v; return old; } \
    static inline T atomicMin(T* p, T v) { T old = *p; if (v < old) *p = v; return old; } \
    static inline T atomicMax(T* p, T v) { T old = *p; if (v > old) *p = v; return old; } \
    static inline T atomicExch(T* p, T v) { T old = *p; *p = v; return old; } \
    static inline T atomicAnd(T* p, T v) { T old = *p; *p = old & v; return old; } \
    static inline T atomicOr(T* p, T v) { T old = *p; *p = old | v; return old; } \
    static inline T atomicXor(T* p, T v) { T old = *p; *p = old ^ v; return old; } \
    static inline T atomicCAS(T* p, T expected, T v) { T old = *p; if (old == expected) *p = v; return old; }
SIMT_ATOMICS(int) SIMT_ATOMICS(unsigned) SIMT_ATOMICS(unsigned long long)
float atomicAdd(float*, float) = delete;
double atomicAdd(double*, double) = delete;

// ---- the compiler's checks ------------------------------------------------------------------------------------------

namespace simt {
struct Place { const char* file; unsigned line, column; };         // how every record of -fsanitize begins
}
extern "C" __attribute__((weak, noinline)) void __ubsan_handle_type_mismatch_v1_abort(simt::Place* at, void* p) {
    simt::fail(simt::MISALIGNED, "%s:%u: misaligned access", at->file, at->line);
}
extern "C" __attribute__((weak, noinline)) void __ubsan_handle_out_of_bounds_abort(simt::Place* at, void* i) {
    simt::fail(simt::ILLEGAL_ADDRESS, "%s:%u: index %lld is beyond the array's bounds", at->file, at->line, (long long) i);
}

#define SIMT_ENTRY(NAME, ...) extern "C" __attribute__((visibility("default"), used)) const standin::Entry \
    standin_entry_##NAME = decltype(simt::signature(NAME))::entry<NAME>(__VA_ARGS__);
