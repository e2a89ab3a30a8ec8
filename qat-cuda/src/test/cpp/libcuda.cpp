// libcuda.cpp -- a stand-in for NVIDIA's driver library, libcuda.so.1: enough of the driver API for JCudaDevice, carried
// out on the CPU, and stricter than a driver where strictness finds mistakes.
//
// * Device addresses are host addresses moved by 2^62, so that a host access to device memory faults at once. Copies,
//   fills, products and pointer parameters of kernels are moved back here; addresses that lie inside device memory (a
//   table of pointers) are not, and a kernel that follows one ends with "illegal address".
// * Every allocation is fresh pages full of NaNs (standin::POISON) between guard words, and beyond them pages that
//   fault. The guards are checked at free and by standin_check.
// * Streams are lazy: work waits in its queue until something forces it (a synchronization, an event that somebody waits
//   for), so that a forgotten wait shows as stale or poisoned data. Work of one stream never overtakes its own order.
//   With standin_haste, streams run ahead by seeded chance instead, as far as their waits let them: what one of them
//   overwrites too early another one then reads.
// * Capture records instead, each piece of work with those that it waits for: its stream's last, and what an event held its
//   stream for. A replay runs the record in an order that these allow and the seed draws, anew each time, so that a wait that
//   was forgotten inside a graph shows. What a real capture forbids fails here and spoils the capture.
// * Faults on demand: the n-th allocation, the n-th launch, the n-th kernel to run.
//
// What it cannot see: kernels that would overlap on a device, transfers that would overlap with kernels, the limits of registers and of static shared memory (nvcc's table shows
// those), and anything about time.
#define STANDIN_LIBRARY
#include "standin.h"
#include <deque>
#include <dlfcn.h>
#include <fcntl.h>
#include <map>
#include <memory>
#include <mutex>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

using namespace standin;
typedef int CUresult;
typedef uint64_t CUdeviceptr;

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
    ILLEGAL_ADDRESS = 700, LAUNCH_OUT_OF_RESOURCES = 701, ILLEGAL_INSTRUCTION = 715, MISALIGNED = 716,
    LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_MERGE = 902, CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905, CAPTURE_IMPLICIT = 906, CAPTURED_EVENT = 907
};

static const struct { CUresult code; const char *name, *text; } ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {MISALIGNED, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
};

// ---- what the library knows ------------------------------------------------------------------------------------------

namespace {

constexpr uint64_t AWAY = 1ull << 62;
constexpr size_t PAGE = 4096, GUARD = 256, PIECE = 16 << 20;

struct Allocation { char *map, *data; size_t mapped, bytes; int64_t serial; };

struct Stream;
struct Node { Work work; Stream* stream; std::vector<int> after; };     // after: the nodes that must have run
typedef std::vector<Node> Graph;
struct Capture { Graph graph; Stream* origin; int mode; std::thread::id thread; bool spoiled, over; };

struct Stream {
    bool blocking;                                     // waits for, and is waited for by, the null stream
    std::deque<Work> queue;
    uint64_t issued = 0, done = 0;
    std::shared_ptr<Capture> capture;                  // shared with the streams that events have drawn into it
    std::vector<int> after;                            // the nodes that the next one of this stream comes after
};

struct Event {
    Stream* stream = nullptr;
    uint64_t ticket = 0;
    double time = 0;
    bool recorded = false;
    std::shared_ptr<Capture> captured;                 // where it was last recorded, if that was in a capture ...
    std::vector<int> after;                            // ... and the nodes that it lies behind
};

struct Module { void* library; };
struct Function { const Entry* entry; std::string name; int dynamic = 0; };

struct Pretence { int devices = 1, major = 8, minor = 0, driver = 12060; size_t memory = 16ull << 30; };
struct Faults { int64_t alloc = 0, launch = 0, kernel = 0; int launchCode = 0, kernelCode = 0; };

constexpr int SHARED = 48 << 10, SHARED_OPTIN = 163 << 10;

std::recursive_mutex door;                             // one thread at a time in here
#define ENTER std::lock_guard<std::recursive_mutex> inside(door)

Pretence pretence;
Faults faults;
bool started;                                          // cuInit has been called
int sticky;                                            // a kernel broke the context: every call answers this
std::string detail;                                    // what the stand-in knows about the last error ...
CUresult detailed;                                     // ... and which error that was
uint64_t seed, runs, haste;
std::string work = getenv("STANDIN_FOLDER") ? getenv("STANDIN_FOLDER") : "/tmp"; // for modules on their way to dlopen
std::map<uint64_t, Allocation> device, pinned;         // by address as the caller sees it
std::vector<std::unique_ptr<Stream>> streams;
char context;                                          // its address is the primary context
thread_local void* current;                            // this thread's context

CUresult fail(CUresult code, const std::string& why) {
    detail = why;
    return detailed = code;
}

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

// ---- memory ----------------------------------------------------------------------------------------------------------

// Pages that all show the same poisoned file until they are written: a huge allocation costs nothing until it is used.
char* poisoned(size_t bytes) {
    static int file = [] {
        int f = memfd_create("poison", MFD_CLOEXEC);
        std::vector<uint32_t> words(PIECE / 4, POISON);
        if (f < 0 || write(f, words.data(), PIECE) != (ssize_t) PIECE) abort();
        return f;
    }();
    char* base = (char*) mmap(nullptr, bytes + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        if (mmap(base + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, 0) == MAP_FAILED) {
            munmap(base, bytes + PAGE);
            return nullptr;
        }
    }
    return base;
}

bool allocate(Allocation& a, size_t bytes) {
    static int64_t serial;
    a.bytes = bytes;
    a.mapped = (PAGE + bytes + GUARD + PAGE - 1) / PAGE * PAGE;      // a page of guard words, data, guard words
    a.map = poisoned(a.mapped);
    a.data = a.map + PAGE;
    a.serial = ++serial;
    return a.map != nullptr;
}

int64_t harmed;                                        // words found overwritten since the last standin_check
std::string harm;

void checkGuards(const Allocation& a) {
    static const std::vector<uint32_t> clean(2 * PAGE / 4, POISON);
    auto look = [&](const char* from, const char* to) {
        const char* word = (const char*) clean.data() + ((from - a.data) & 3);
        if (!memcmp(from, word, to - from)) return;
        for (const char* p = from; p < to; p++) {
            if (*p == word[p - from]) continue;
            if (harmed++ == 0)
                harm = "allocation " + std::to_string(a.serial) + " of " + std::to_string(a.bytes) + " bytes: "
                     + (p < a.data ? std::to_string(a.data - p) + " bytes before its start"
                                   : std::to_string(p - a.data - a.bytes) + " bytes beyond its end")
                     + " a guard word was overwritten";
        }
    };
    look(a.map, a.data);
    look(a.data + a.bytes, a.map + a.mapped);
}

void release(const Allocation& a) {
    checkGuards(a);
    munmap(a.map, a.mapped + PAGE);
}

char* find(const std::map<uint64_t, Allocation>& among, uint64_t p, size_t bytes) {
    auto it = among.upper_bound(p);
    if (it == among.begin()) return nullptr;
    --it;
    uint64_t at = p - it->first;
    return at + bytes <= it->second.bytes ? it->second.data + at : nullptr;
}

// A device address, or pinned memory, which a device reaches under its host address.
char* reach(uint64_t p, size_t bytes) {
    char* host = translate(p, bytes);
    return host ? host : find(pinned, p, bytes);
}

// ---- running kernels -------------------------------------------------------------------------------------------------

sigjmp_buf escape;
volatile pthread_t runner;                             // the thread inside a kernel, or 0
volatile int trapped;
void* volatile where;
struct sigaction before[65];

// A fault inside a kernel ends the kernel; any other is the JVM's own business.
void onSignal(int signal, siginfo_t* info, void* machine) {
    if (runner && pthread_equal(runner, pthread_self())) {
        trapped = signal;
        where = info->si_addr;
        siglongjmp(escape, 1);
    }
    struct sigaction& old = before[signal];
    if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(signal, info, machine);
    else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) old.sa_handler(signal);
    else {
        sigaction(signal, &old, nullptr);
        raise(signal);
    }
}

void catchSignals() {
    static bool caught;
    if (caught) return;
    caught = true;
    struct sigaction mine = {};
    mine.sa_sigaction = onSignal;
    mine.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;      // NODEFER: siglongjmp need not restore a mask
    for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(s, &mine, &before[s]);
}

char* stacks() {
    static char* all = [] {
        char* p = (char*) mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) abort();
        for (int i = 0; i < MAX_THREADS; i++) mprotect(p + i * STACK, FENCE, PROT_NONE);
        return p;
    }();
    return all;
}

struct Call {                                          // a launch with its parameters copied, as a stream or graph keeps it
    Function* function;
    dim3 grid, block;
    unsigned shared;
    std::vector<uint64_t> values;
};

CUresult runKernel(const Call& c) {
    const Entry& e = *c.function->entry;
    counters[KERNELS]++;
    if (faults.kernel && --faults.kernel == 0)
        return fail(faults.kernelCode, "kernel " + c.function->name + ": a fault that the test asked for");
    std::vector<uint64_t> values = c.values;
    std::vector<void*> args;
    for (int i = 0; i < e.count; i++) {
        if (e.pointers[i] && values[i]) {
            char* host = reach(values[i], 0);
            if (!host) return fail(ILLEGAL_ADDRESS, "kernel " + c.function->name + ": parameter " + std::to_string(i + 1)
                                   + " is not the address of live device memory");
            values[i] = (uint64_t) host;
        }
        args.push_back(&values[i]);
    }
    Launch l{c.grid, c.block, c.shared, (seed + 1) * 0x9e3779b97f4a7c15u + ++runs * 0xbf58476d1ce4e5b9u, stacks(), 0, {}};
    static char* aside = (char*) mmap(nullptr, 128 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t mine{aside, 0, 128 << 10}, old;            // a stack overflow needs another stack to be caught on
    catchSignals();
    sigaltstack(&mine, &old);
    if (sigsetjmp(escape, 0) == 0) {
        runner = pthread_self();
        e.run(l, args.data());
    } else {
        l.code = trapped == SIGILL ? ILLEGAL_INSTRUCTION : trapped == SIGFPE ? LAUNCH_FAILED : ILLEGAL_ADDRESS;
        char* s = (char*) where;
        bool overflow = s >= stacks() && s < stacks() + MAX_THREADS * STACK;
        snprintf(l.text, sizeof l.text, "%s (%p)", trapped == SIGFPE ? "an integer division by zero"
                 : overflow ? "a thread's stack overflowed" : "an access to memory that is not there", where);
    }
    runner = 0;
    sigaltstack(&old, nullptr);
    return l.code ? fail(l.code, "kernel " + c.function->name + ": " + l.text) : SUCCESS;
}

// ---- streams -----------------------------------------------------------------------------------------------------------

CUresult drain(Stream* s, uint64_t ticket) {
    while (s->done < ticket && !s->queue.empty()) {
        Work w = std::move(s->queue.front());
        s->queue.pop_front();
        int code = sticky ? 0 : w();
        if (code) sticky = code;
        s->done++;
    }
    return sticky;
}

CUresult drainAll(bool blockingOnly = false) {
    for (auto& s : streams) if (!blockingOnly || s->blocking) drain(s.get(), s->issued);
    return sticky;
}

CUresult waited() {                                    // the host has waited, and goes on
    counters[SYNCS]++;
    bool idle = true;
    for (auto& s : streams) idle &= s->queue.empty();
    counters[STALLS] += idle;
    return sticky;
}

uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// Of the streams, one does all it has, one a piece now and then, one nothing: which is which, the seed says.
CUresult hurry() {
    static uint64_t turn;
    for (size_t i = 0; i < streams.size(); i++) {
        Stream* s = streams[i].get();
        uint64_t speed = mix(haste * 1000 + i) % 3;
        if (speed == 2) drain(s, s->issued);
        if (speed == 1 && mix(++turn) % 8 == 0) drain(s, s->done + 1);
    }
    return sticky;
}

Capture* captureOf(void* s) { return s ? ((Stream*) s)->capture.get() : nullptr; }

// Calls that a capture forbids spoil it: any capture in global mode, this thread's in thread-local mode.
bool forbidden() {
    bool any = false;
    for (auto& s : streams) if (Capture* c = s->capture.get())
        if (c->mode == 0 || (c->mode == 1 && c->thread == std::this_thread::get_id())) any = c->spoiled = true;
    return any;
}

CUresult spoil(void* stream, const char* why) {
    captureOf(stream)->spoiled = true;
    return fail(CAPTURE_UNSUPPORTED, why);
}

#define READY \
    ENTER; \
    if (!started) return NOT_INITIALIZED; \
    if (!current) return INVALID_CONTEXT; \
    if (sticky) return sticky
#define UNCAPTURED if (forbidden()) return fail(CAPTURE_UNSUPPORTED, "while a stream is being captured")
#define NEED(fact, code, why) if (!(fact)) return fail(code, why)

CUresult synchronous(const Work& w) {                  // on the null stream, and done at return
    if (forbidden()) return CAPTURE_IMPLICIT;
    if (CUresult r = drainAll(true)) return r;
    if (int code = w()) return sticky = code;
    return SUCCESS;
}

Work copying(char* to, const char* from, size_t bytes) { return [=] { memmove(to, from, bytes); return 0; }; }

}  // namespace

namespace standin {
int64_t counters[COUNTERS];

char* translate(uint64_t p, size_t bytes) { return p >= AWAY ? find(device, p, bytes) : nullptr; }

bool capturing(void* s) {
    ENTER;
    return captureOf(s) != nullptr;
}

int submit(void* stream, const Work& w) {
    READY;
    if (Capture* c = captureOf(stream)) {
        if (c->spoiled) return CAPTURE_INVALIDATED;
        Stream* s = (Stream*) stream;
        c->graph.push_back({w, s, s->after});
        s->after = {(int) c->graph.size() - 1};
        return SUCCESS;
    }
    if (!stream) return synchronous(w);
    Stream* s = (Stream*) stream;
    s->queue.push_back(w);
    s->issued++;
    if (s->queue.size() > 4096) return drain(s, s->issued - 4096);
    return haste ? hurry() : (CUresult) SUCCESS;
}
}  // namespace standin

// ---- the driver API ----------------------------------------------------------------------------------------------------

#define API extern "C" __attribute__((visibility("default")))

API CUresult cuInit(unsigned) {
    ENTER;
    NEED(pretence.devices > 0, NO_DEVICE, "");
    started = true;
    return SUCCESS;
}

API CUresult cuDriverGetVersion(int* v) { *v = pretence.driver; return SUCCESS; }

API CUresult cuGetErrorName(CUresult code, const char** s) {
    for (auto& e : ERRORS) if (e.code == code) { *s = e.name; return SUCCESS; }
    *s = nullptr;
    return INVALID_VALUE;
}

API CUresult cuGetErrorString(CUresult code, const char** s) {
    static thread_local std::string text;
    for (auto& e : ERRORS) if (e.code == code) {
        text = e.text;
        if (code == detailed && !detail.empty()) text += " (" + detail + ")";
        *s = text.c_str();
        return SUCCESS;
    }
    *s = nullptr;
    return INVALID_VALUE;
}

API CUresult cuDeviceGetCount(int* n) { *n = pretence.devices; return started ? SUCCESS : NOT_INITIALIZED; }

API CUresult cuDeviceGet(int* d, int ordinal) {
    NEED(ordinal >= 0 && ordinal < pretence.devices, INVALID_DEVICE, "");
    *d = ordinal;
    return SUCCESS;
}

API CUresult cuDeviceGetName(char* name, int n, int) { snprintf(name, n, "stand-in"); return SUCCESS; }
API CUresult cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = pretence.memory; return SUCCESS; }

API CUresult cuDeviceGetAttribute(int* v, int attribute, int) {
    switch (attribute) {
        case 1: *v = 1024; break;                      // threads per block
        case 2: case 3: *v = 1024; break;              // block x, y
        case 4: *v = 64; break;                        // block z
        case 5: *v = 2147483647; break;                // grid x
        case 6: case 7: *v = 65535; break;             // grid y, z
        case 8: *v = SHARED; break;                    // shared memory per block
        case 10: *v = 32; break;                       // warp size
        case 12: *v = 65536; break;                    // registers per block
        case 13: *v = 1410000; break;                  // clock, kHz
        case 16: *v = 108; break;                      // multiprocessors
        case 36: *v = 1215000; break;                  // memory clock, kHz
        case 37: *v = 5120; break;                     // memory bus, bits
        case 38: *v = 40 << 20; break;                 // L2
        case 39: *v = 2048; break;                     // threads per multiprocessor
        case 41: *v = 1; break;                        // unified addressing
        case 75: *v = pretence.major; break;
        case 76: *v = pretence.minor; break;
        case 81: *v = 164 << 10; break;                // shared memory per multiprocessor
        case 97: *v = SHARED_OPTIN; break;             // shared memory per block, opted in
        default: return fail(INVALID_VALUE, "attribute " + std::to_string(attribute) + " is unknown to the stand-in");
    }
    return SUCCESS;
}

API CUresult cuDevicePrimaryCtxRetain(void** c, int) { *c = &context; return started ? SUCCESS : NOT_INITIALIZED; }
API CUresult cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API CUresult cuCtxSetCurrent(void* c) { current = c; return SUCCESS; }
API CUresult cuCtxGetCurrent(void** c) { *c = current; return SUCCESS; }

API CUresult cuCtxSynchronize() {
    READY;
    UNCAPTURED;
    drainAll();
    return waited();
}

API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    READY;
    *total = pretence.memory;
    *free = pretence.memory - counters[LIVE];
    return SUCCESS;
}

API CUresult cuMemAlloc_v2(CUdeviceptr* p, size_t bytes) {
    READY;
    UNCAPTURED;
    NEED(bytes > 0, INVALID_VALUE, "an allocation of no bytes");
    if (faults.alloc && --faults.alloc == 0) return fail(OUT_OF_MEMORY, "a fault that the test asked for");
    Allocation a;
    if (bytes > pretence.memory - counters[LIVE] || !allocate(a, bytes)) return fail(OUT_OF_MEMORY, "");
    *p = (uint64_t) a.data + AWAY;
    device[*p] = a;
    counters[ALLOCS]++;
    counters[LIVE] += bytes;
    if (counters[LIVE] > counters[PEAK]) counters[PEAK] = counters[LIVE];
    return SUCCESS;
}

API CUresult cuMemFree_v2(CUdeviceptr p) {
    READY;
    UNCAPTURED;
    if (!p) return SUCCESS;
    auto it = device.find(p);
    NEED(it != device.end(), INVALID_VALUE, "not the start of a live allocation");
    drainAll();                                        // cuMemFree waits for everything
    release(it->second);
    counters[FREES]++;
    counters[LIVE] -= it->second.bytes;
    device.erase(it);
    return sticky;
}

API CUresult cuMemHostAlloc(void** p, size_t bytes, unsigned) {
    READY;
    UNCAPTURED;
    Allocation a;
    NEED(bytes > 0 && allocate(a, bytes), bytes ? OUT_OF_MEMORY : INVALID_VALUE, "pinned host memory");
    *p = a.data;
    pinned[(uint64_t) a.data] = a;
    counters[PINNED] += bytes;
    return SUCCESS;
}

API CUresult cuMemFreeHost(void* p) {
    READY;
    UNCAPTURED;
    auto it = pinned.find((uint64_t) p);
    NEED(it != pinned.end(), INVALID_VALUE, "not the start of pinned memory");
    drainAll();
    release(it->second);
    counters[PINNED] -= it->second.bytes;
    pinned.erase(it);
    return sticky;
}

static CUresult upload(CUdeviceptr to, const void* from, size_t bytes, void* stream, bool async) {
    READY;
    char* host = translate(to, bytes);
    NEED(host, INVALID_VALUE, "the copy leaves its device allocation");
    counters[UPLOADS]++, counters[UPLOADED] += bytes;
    if (!async) return synchronous(copying(host, (const char*) from, bytes));
    if (find(pinned, (uint64_t) from, bytes)) return submit(stream, copying(host, (const char*) from, bytes));
    if (captureOf(stream)) return spoil(stream, "a copy from pageable memory");
    std::string kept((const char*) from, bytes);       // the driver, too, has staged pageable memory when it returns
    return submit(stream, [=] { memcpy(host, kept.data(), bytes); return 0; });
}

static CUresult download(void* to, CUdeviceptr from, size_t bytes, void* stream, bool async) {
    READY;
    char* host = translate(from, bytes);
    NEED(host, INVALID_VALUE, "the copy leaves its device allocation");
    counters[DOWNLOADS]++, counters[DOWNLOADED] += bytes;
    if (!async) return synchronous(copying((char*) to, host, bytes));
    if (find(pinned, (uint64_t) to, bytes)) return submit(stream, copying((char*) to, host, bytes));
    if (captureOf(stream)) return spoil(stream, "a copy to pageable memory");
    CUresult r = submit(stream, copying((char*) to, host, bytes));
    return r || !stream ? r : drain((Stream*) stream, ((Stream*) stream)->issued);
}

static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, void* stream, bool async) {
    READY;
    char *a = reach(to, bytes), *b = reach(from, bytes);
    NEED(a && b, INVALID_VALUE, "the copy leaves its allocation");
    counters[COPIES]++;
    return async ? submit(stream, copying(a, b, bytes)) : synchronous(copying(a, b, bytes));
}

API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t n) { return upload(to, from, n, nullptr, false); }
API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t n) { return download(to, from, n, nullptr, false); }
API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) { return copy(to, from, n, nullptr, false); }
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t n, void* s) { return upload(to, from, n, s, true); }
API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t n, void* s) { return download(to, from, n, s, true); }
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, void* s) { return copy(to, from, n, s, true); }

template <class T> static CUresult set(CUdeviceptr to, T value, size_t count, void* stream) {
    READY;
    NEED(to % sizeof(T) == 0, INVALID_VALUE, "a misaligned fill");
    T* host = (T*) translate(to, count * sizeof(T));
    NEED(host, INVALID_VALUE, "the fill leaves its device allocation");
    counters[FILLS]++;
    return submit(stream, [=] { for (size_t i = 0; i < count; i++) host[i] = value; return 0; });
}
API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char v, size_t n, void* s) { return set<uint8_t>(to, v, n, s); }
API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned v, size_t n, void* s) { return set<uint32_t>(to, v, n, s); }

API CUresult cuStreamCreate(void** s, unsigned flags) {
    READY;
    streams.push_back(std::make_unique<Stream>());
    streams.back()->blocking = !(flags & 1);
    *s = streams.back().get();
    return SUCCESS;
}

API CUresult cuStreamDestroy_v2(void* s) {
    ENTER;
    drain((Stream*) s, ((Stream*) s)->issued);
    for (auto it = streams.begin(); it != streams.end(); ++it) if (it->get() == s) { streams.erase(it); return SUCCESS; }
    return INVALID_HANDLE;
}

API CUresult cuStreamSynchronize(void* s) {
    READY;
    if (captureOf(s)) return spoil(s, "a synchronization of the stream that is being captured");
    s ? drain((Stream*) s, ((Stream*) s)->issued) : drainAll(true);
    return waited();
}

API CUresult cuStreamWaitEvent(void* stream, void* event, unsigned) {
    READY;
    Event* e = (Event*) event;
    Stream* s = (Stream*) stream;
    Capture* c = captureOf(stream);
    if (e->captured) {
        NEED(s && !e->captured->over, CAPTURED_EVENT, "");
        if (c && s->capture != e->captured) {
            c->spoiled = e->captured->spoiled = true;
            return CAPTURE_MERGE;
        }
        if (!c) s->after.clear();
        s->capture = e->captured;
        s->after.insert(s->after.end(), e->after.begin(), e->after.end());
        return SUCCESS;
    }
    if (!e->recorded) return SUCCESS;
    if (c) {
        c->spoiled = true;
        return CAPTURE_ISOLATION;
    }
    Stream* other = e->stream;
    uint64_t ticket = e->ticket;
    return submit(stream, [=] { return drain(other, ticket); });
}

API CUresult cuEventCreate(void** e, unsigned) { *e = new Event; return SUCCESS; }
API CUresult cuEventDestroy_v2(void* e) {
    ENTER;
    Event* event = (Event*) e;
    if (event->recorded && !sticky) drain(event->stream, event->ticket);   // the record's work holds the event
    delete event;
    return SUCCESS;
}

API CUresult cuEventRecord(void* event, void* s) {
    READY;
    NEED(s, INVALID_HANDLE, "the stand-in records events on streams of their own only");
    Event* e = (Event*) event;
    e->captured = ((Stream*) s)->capture;
    if (e->captured) {
        e->after = ((Stream*) s)->after;
        return SUCCESS;
    }
    e->stream = (Stream*) s;
    e->recorded = true;
    CUresult r = submit(s, [=] { e->time = now(); return 0; });
    e->ticket = e->stream->issued;
    return r;
}

API CUresult cuEventSynchronize(void* event) {
    READY;
    Event* e = (Event*) event;
    if (e->captured) return CAPTURED_EVENT;
    if (e->recorded) drain(e->stream, e->ticket);
    return waited();
}

API CUresult cuEventQuery(void* event) {
    READY;
    Event* e = (Event*) event;
    if (e->captured) return CAPTURED_EVENT;
    if (!e->recorded || e->stream->done >= e->ticket) return SUCCESS;
    CUresult r = drain(e->stream, e->stream->done + 1);       // so that asking again and again comes to an end
    return r ? r : NOT_READY;
}

API CUresult cuEventElapsedTime(float* ms, void* from, void* to) {
    READY;
    Event *a = (Event*) from, *b = (Event*) to;
    NEED(a->recorded && b->recorded, INVALID_HANDLE, "an event that was never recorded");
    if (a->stream->done < a->ticket || b->stream->done < b->ticket) return NOT_READY;
    *ms = (float) (b->time - a->time);
    return SUCCESS;
}

// An image is "qat-simt", a length, and a shared object (a cubin), or "// simt " and the path of one (PTX).
API CUresult cuModuleLoadData(void** module, const void* image) {
    READY;
    UNCAPTURED;
    std::string path;
    static int serial;
    if (!memcmp(image, "qat-simt", 8)) {
        uint64_t bytes;
        memcpy(&bytes, (const char*) image + 8, 8);
        path = work + "/loading-" + std::to_string(getpid()) + "-" + std::to_string(++serial) + ".so";
        FILE* f = fopen(path.c_str(), "wb");
        NEED(f && fwrite((const char*) image + 16, 1, bytes, f) == bytes, INVALID_IMAGE, "cannot write " + path);
        fclose(f);
    } else if (!memcmp(image, "// simt ", 8)) {
        path = (const char*) image + 8;
        path.resize(path.find('\n'));
    } else return fail(INVALID_IMAGE, "made neither by the stand-in's NVRTC");
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!memcmp(image, "qat-simt", 8)) unlink(path.c_str());
    NEED(library, INVALID_IMAGE, dlerror());
    *module = new Module{library};
    counters[MODULES]++;
    return SUCCESS;
}

API CUresult cuModuleUnload(void* m) {
    READY;
    UNCAPTURED;
    drainAll();
    dlclose(((Module*) m)->library);
    delete (Module*) m;
    return SUCCESS;
}

API CUresult cuModuleGetFunction(void** f, void* m, const char* name) {
    READY;
    void* entry = dlsym(((Module*) m)->library, ("standin_entry_" + std::string(name)).c_str());
    NEED(entry, NOT_FOUND, name);
    *f = new Function{(const Entry*) entry, name};
    return SUCCESS;
}

API CUresult cuFuncGetAttribute(int* v, int attribute, void* f) {
    if (attribute == 0) *v = ((Function*) f)->entry->bound;
    else if (attribute == 8) *v = ((Function*) f)->dynamic;
    else return fail(INVALID_VALUE, "the stand-in knows no registers and no static shared memory");
    return SUCCESS;
}

API CUresult cuFuncSetAttribute(void* f, int attribute, int v) {
    if (attribute == 9) return SUCCESS;                // the share of L1 that is shared memory: a hint
    NEED(attribute == 8 && v <= SHARED_OPTIN, INVALID_VALUE, "dynamic shared memory beyond the device's opt-in limit");
    ((Function*) f)->dynamic = v;
    return SUCCESS;
}

API CUresult cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                            unsigned shared, void* stream, void** params, void** extra) {
    READY;
    Function* function = (Function*) f;
    const Entry& e = *function->entry;
    uint64_t threads = (uint64_t) bx * by * bz;
    counters[LAUNCHES]++;
    if (faults.launch && --faults.launch == 0) return fail(faults.launchCode, "a fault that the test asked for");
    NEED(gx && gy && gz && threads && !extra, INVALID_VALUE, "an empty grid or block");
    NEED(gx <= 2147483647u && gy <= 65535 && gz <= 65535, INVALID_VALUE, "the grid is beyond 2147483647 x 65535 x 65535");
    NEED(threads <= MAX_THREADS && bz <= 64, INVALID_VALUE, "the block has more than 1024 threads");
    NEED(threads <= (uint64_t) e.bound, LAUNCH_OUT_OF_RESOURCES, "the block is larger than the kernel's __launch_bounds__");
    NEED(shared <= (unsigned) (function->dynamic > SHARED ? function->dynamic : SHARED), INVALID_VALUE,
         "more dynamic shared memory than the function was opted in for");
    Call c{function, {gx, gy, gz}, {bx, by, bz}, shared, {}};
    for (int i = 0; i < e.count; i++) {
        NEED(e.sizes[i] <= 8, INVALID_VALUE, "a parameter of more than 8 bytes");
        c.values.push_back(0);
        memcpy(&c.values.back(), params[i], e.sizes[i]);
    }
    return submit(stream, [c] { return runKernel(c); });
}

API CUresult cuStreamBeginCapture_v2(void* s, int mode) {
    READY;
    NEED(s && !captureOf(s), INVALID_VALUE, "the null stream, or a stream that is being captured already");
    ((Stream*) s)->capture.reset(new Capture{{}, (Stream*) s, mode, std::this_thread::get_id(), false, false});
    ((Stream*) s)->after.clear();
    return SUCCESS;
}

// Whether all that was captured comes before the end of the stream that the capture began on.
static bool joined(const Capture& c) {
    std::vector<bool> seen(c.graph.size());
    std::vector<int> look = c.origin->after;
    size_t found = 0;
    while (!look.empty()) {
        int i = look.back();
        look.pop_back();
        if (seen[i]) continue;
        seen[i] = true, found++;
        look.insert(look.end(), c.graph[i].after.begin(), c.graph[i].after.end());
    }
    return found == c.graph.size();
}

API CUresult cuStreamEndCapture(void* s, void** graph) {
    READY;
    *graph = nullptr;
    NEED(captureOf(s) && captureOf(s)->origin == s, CAPTURE_UNMATCHED, "");
    std::shared_ptr<Capture> c = ((Stream*) s)->capture;
    c->over = true;
    for (auto& other : streams) if (other->capture == c) other->capture = nullptr;
    if (c->spoiled) return CAPTURE_INVALIDATED;
    if (!joined(*c)) return CAPTURE_UNJOINED;
    *graph = new Graph(std::move(c->graph));
    return SUCCESS;
}

API CUresult cuStreamIsCapturing(void* s, int* status) {
    ENTER;
    *status = !captureOf(s) ? 0 : captureOf(s)->spoiled ? 2 : 1;
    return SUCCESS;
}

API CUresult cuGraphGetNodes(void* graph, void** nodes, size_t* n) {
    NEED(!nodes, INVALID_VALUE, "the stand-in counts nodes only");
    *n = ((Graph*) graph)->size();
    return SUCCESS;
}

API CUresult cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
    READY;
    UNCAPTURED;
    *exec = new std::shared_ptr<Graph>(new Graph(*(Graph*) graph));
    return SUCCESS;
}

// Runs a graph in an order that its nodes allow: by the dice one stream goes ahead of the others as far as it may, or they
// take turns by chance.
static int replay(const Graph& g, uint64_t dice) {
    std::vector<size_t> missing(g.size());
    std::vector<std::vector<int>> next(g.size());
    std::vector<int> ready;
    for (size_t i = 0; i < g.size(); i++) {
        missing[i] = g[i].after.size();
        for (int a : g[i].after) next[a].push_back(i);
        if (!missing[i]) ready.push_back(i);
    }
    for (uint64_t turn = 0; !ready.empty(); turn++) {
        size_t pick = dice % 2 ? mix(dice + turn) % ready.size() : 0;
        auto speed = [&](size_t k) { return mix(dice ^ (uint64_t) g[ready[k]].stream); };
        if (dice % 2 == 0) for (size_t k = 1; k < ready.size(); k++) if (speed(k) > speed(pick)) pick = k;
        int i = ready[pick];
        ready.erase(ready.begin() + pick);
        if (int code = g[i].work()) return code;
        for (int n : next[i]) if (--missing[n] == 0) ready.push_back(n);
    }
    return 0;
}

API CUresult cuGraphLaunch(void* exec, void* stream) {
    READY;
    counters[GRAPH_LAUNCHES]++;
    if (faults.launch && --faults.launch == 0) return fail(faults.launchCode, "a fault that the test asked for");
    std::shared_ptr<Graph> graph = *(std::shared_ptr<Graph>*) exec;
    static uint64_t replays;
    uint64_t dice = mix((seed + 1) * 1000003 + ++replays);
    return submit(stream, [graph, dice] { return replay(*graph, dice); });
}

API CUresult cuGraphDestroy(void* graph) { delete (Graph*) graph; return SUCCESS; }
API CUresult cuGraphExecDestroy(void* exec) { delete (std::shared_ptr<Graph>*) exec; return SUCCESS; }

// ---- what tests ask of the stand-in, through dev.qat.cuda.StandIn --------------------------------------------------------

API int64_t* standin_counters() { return counters; }
API void standin_folder(const char* path) { work = path; }
API const char* standin_work() { return work.c_str(); }
API void standin_haste(uint64_t s) { ENTER; haste = s; }
API void standin_seed(uint64_t s) { ENTER; seed = s; runs = 0; }

API void standin_pretend(int devices, int major, int minor, int driver, int64_t memory) {
    ENTER;
    pretence = {devices, major, minor, driver, (size_t) memory};
}

API void standin_fault(int64_t alloc, int64_t launch, int launchCode, int64_t kernel, int kernelCode) {
    ENTER;
    faults = {alloc, launch, kernel, launchCode, kernelCode};
}

// Counters to zero (but for what is alive), no faults, no broken context, seed 0, one device as at first.
API void standin_reset() {
    ENTER;
    for (int i = 0; i < COUNTERS; i++) if (i != LIVE && i != PINNED) counters[i] = 0;
    counters[PEAK] = counters[LIVE];
    pretence = {};
    faults = {};
    sticky = harmed = 0;
    detail.clear();
    seed = runs = haste = 0;
}

// The number of guard bytes found overwritten since the last call, and about the first of them a sentence.
API int64_t standin_check(const char** text) {
    ENTER;
    drainAll();
    for (auto* all : {&device, &pinned}) for (auto& a : *all) checkGuards(a.second);
    static std::string said;
    said = harm;
    *text = said.c_str();
    int64_t n = harmed;
    harmed = 0;
    return n;
}
