// libcublas.cpp -- a stand-in for libcublas.so.12: the products that JCudaDevice asks for, as blocked loops on the CPU.
//
// FP32 accumulation over blocks of 256 along k; BF16 operands are exact, TF32 rounds its operands to 10 bits of mantissa
// (to nearest, ties away, as the tensor cores' own conversion). Like cuBLAS it forgets its workspace when the stream is set,
// and it refuses to be captured without one. It cannot tell which algorithm a device would take, nor that one's rounding.
#define STANDIN_LIBRARY
#include "standin.h"
#include <string.h>
#include <vector>

using namespace standin;

namespace {
enum { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { F32 = 0, BF16 = 14 };                                     // cudaDataType
enum { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_32F_FAST_TF32 = 77 };

struct Handle { void* stream; uint64_t workspace; int math; };

struct Operand {                                                 // op(X): element (i, j) is at i * down + j * across
    const char* data;
    int type;
    int64_t down, across;
    bool tf32;
    float operator()(int64_t i, int64_t j) const {
        int64_t at = i * down + j * across;
        uint32_t u;
        if (type == BF16) u = (uint32_t) ((const uint16_t*) data)[at] << 16;
        else memcpy(&u, data + 4 * at, 4);
        if (tf32 && (u & 0x7f800000) != 0x7f800000) u = (u + 0x1000) & ~0x1fffu;
        float f;
        memcpy(&f, &u, 4);
        return f;
    }
};

constexpr int M = 16, N = 6, KC = 256, MC = 128, NC = 384;       // the tile in registers, and the blocks in caches
typedef float v8 __attribute__((vector_size(32)));

// tile (N columns of M) += a (k, M) b (k, N)
void tile(float* c, int64_t ldc, const float* a, const float* b, int k) {
    v8 sum[N][2];
    for (int j = 0; j < N; j++) for (int h = 0; h < 2; h++) memcpy(&sum[j][h], c + j * ldc + 8 * h, 32);
    for (int p = 0; p < k; p++, a += M, b += N) {
        v8 lo, hi;
        memcpy(&lo, a, 32), memcpy(&hi, a + 8, 32);
#pragma GCC unroll 6
        for (int j = 0; j < N; j++) sum[j][0] += lo * b[j], sum[j][1] += hi * b[j];
    }
    for (int j = 0; j < N; j++) for (int h = 0; h < 2; h++) memcpy(c + j * ldc + 8 * h, &sum[j][h], 32);
}

// sum (columns of ld floats, ld a multiple of M, columns a multiple of N) = A (m, k) B (k, n)
void multiply(std::vector<float>& sum, int64_t ld, const Operand& A, const Operand& B, int m, int n, int k) {
    static std::vector<float> a(MC * KC), b(KC * NC);
    for (int k0 = 0; k0 < k; k0 += KC) {
        int kc = k - k0 < KC ? k - k0 : KC;
        for (int j0 = 0; j0 < n; j0 += NC) {
            int nc = n - j0 < NC ? (n - j0 + N - 1) / N * N : NC;
            for (int j = 0; j < nc; j++) for (int p = 0; p < kc; p++)
                b[j / N * N * kc + p * N + j % N] = j0 + j < n ? B(k0 + p, j0 + j) : 0;
            for (int i0 = 0; i0 < m; i0 += MC) {
                int mc = m - i0 < MC ? (m - i0 + M - 1) / M * M : MC;
                for (int p = 0; p < kc; p++) for (int i = 0; i < mc; i++)
                    a[i / M * M * kc + p * M + i % M] = i0 + i < m ? A(i0 + i, k0 + p) : 0;
                for (int j = 0; j < nc; j += N) for (int i = 0; i < mc; i += M)
                    tile(&sum[(j0 + j) * ld + i0 + i], ld, &a[i * kc], &b[j * kc], kc);
            }
        }
    }
}

void store(char* c, int type, int64_t at, float v, float beta) {
    if (type == F32) {
        float* p = (float*) c + at;
        *p = beta ? v + beta * *p : v;
        return;
    }
    uint16_t* p = (uint16_t*) c + at;
    uint32_t u = (uint32_t) *p << 16;
    float old;
    memcpy(&old, &u, 4);
    if (beta) v += beta * old;
    memcpy(&u, &v, 4);
    *p = v != v ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

int bytes(int type) { return type == F32 ? 4 : 2; }

// The bytes that a batch of column-major matrices spans.
size_t span(int type, int rows, int columns, int ld, int64_t stride, int batch) {
    if (rows == 0 || columns == 0) return 0;
    return ((batch - 1) * stride + (int64_t) (columns - 1) * ld + rows) * bytes(type);
}

int product(Handle* h, int ta, int tb, int m, int n, int k, float alpha, uint64_t a, int at, int lda, int64_t sa,
            uint64_t b, int bt, int ldb, int64_t sb, float beta, uint64_t c, int ct, int ldc, int64_t sc, int batch,
            int compute) {
    if (!h) return NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || batch < 0) return INVALID_VALUE;
    int ra = ta ? k : m, ca = ta ? m : k, rb = tb ? n : k, cb = tb ? k : n;
    if (lda < (ra > 1 ? ra : 1) || ldb < (rb > 1 ? rb : 1) || ldc < (m > 1 ? m : 1)) return INVALID_VALUE;
    bool types = at == bt && ((at == F32 && ct == F32) || (at == BF16 && (ct == BF16 || ct == F32)));
    bool known = compute == COMPUTE_32F || compute == COMPUTE_32F_PEDANTIC || (compute == COMPUTE_32F_FAST_TF32 && at == F32);
    if (!types || !known) return NOT_SUPPORTED;
    if (capturing(h->stream) && !h->workspace) return ALLOC_FAILED;
    if (m == 0 || n == 0 || batch == 0) return SUCCESS;
    const char* pa = translate(a, span(at, ra, ca, lda, sa, batch));
    const char* pb = translate(b, span(bt, rb, cb, ldb, sb, batch));
    char* pc = translate(c, span(ct, m, n, ldc, sc, batch));
    if (!pa || !pb || !pc) return EXECUTION_FAILED;
    counters[GEMMS]++;
    bool tf32 = compute == COMPUTE_32F_FAST_TF32;
    int code = submit(h->stream, [=] {
        int64_t ld = (m + M - 1) / M * M;
        for (int i = 0; i < batch; i++) {
            std::vector<float> sum(ld * ((n + N - 1) / N * N));
            Operand A{pa + i * sa * bytes(at), at, ta ? lda : 1, ta ? 1 : lda, tf32};
            Operand B{pb + i * sb * bytes(bt), bt, tb ? ldb : 1, tb ? 1 : ldb, tf32};
            multiply(sum, ld, A, B, m, n, k);
            char* out = pc + i * sc * bytes(ct);
            for (int64_t y = 0; y < n; y++) for (int64_t x = 0; x < m; x++)
                store(out, ct, y * ldc + x, alpha * sum[y * ld + x], beta);
        }
        return 0;
    });
    return code ? EXECUTION_FAILED : SUCCESS;
}
}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API int cublasCreate_v2(Handle** h) { *h = new Handle(); return SUCCESS; }
API int cublasDestroy_v2(Handle* h) { delete h; return SUCCESS; }
API int cublasGetVersion_v2(Handle*, int* v) { *v = 120604; return SUCCESS; }
API int cublasSetMathMode(Handle* h, int mode) { h->math = mode; return SUCCESS; }

API int cublasSetStream_v2(Handle* h, void* stream) {
    h->stream = stream;
    h->workspace = 0;
    return SUCCESS;
}

API int cublasSetWorkspace_v2(Handle* h, uint64_t workspace, size_t size) {
    if (workspace % 256 || !translate(workspace, size)) return INVALID_VALUE;
    h->workspace = workspace;
    return SUCCESS;
}

API int cublasGemmEx(Handle* h, int ta, int tb, int m, int n, int k, const float* alpha, uint64_t a, int at, int lda,
                     uint64_t b, int bt, int ldb, const float* beta, uint64_t c, int ct, int ldc, int compute, int) {
    return product(h, ta, tb, m, n, k, *alpha, a, at, lda, 0, b, bt, ldb, 0, *beta, c, ct, ldc, 0, 1, compute);
}

API int cublasGemmStridedBatchedEx(Handle* h, int ta, int tb, int m, int n, int k, const float* alpha, uint64_t a, int at,
                                   int lda, long long sa, uint64_t b, int bt, int ldb, long long sb, const float* beta,
                                   uint64_t c, int ct, int ldc, long long sc, int batch, int compute, int) {
    return product(h, ta, tb, m, n, k, *alpha, a, at, lda, sa, b, bt, ldb, sb, *beta, c, ct, ldc, sc, batch, compute);
}

API const char* cublasGetStatusName(int code) {
    switch (code) {
        case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
        case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
        case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "CUBLAS_STATUS_UNKNOWN";
    }
}
API const char* cublasGetStatusString(int code) { return cublasGetStatusName(code); }
