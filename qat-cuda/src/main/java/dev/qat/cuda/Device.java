package dev.qat.cuda;

import dev.qat.tensor.Memory;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * A CUDA device, as thin as it can be: memory by address, kernels by name, products, events, captured graphs.
 *
 * <p>Work goes down three lanes. Within one lane it is done in the order in which it was issued; across lanes only
 * {@link Event}s put it in order. Kernels, products, fills and device-to-device copies are on {@link Lane#COMPUTE}.
 * Addresses are plain longs: an offset into an allocation is an addition, 0 is no address. Any thread may call.
 */
public interface Device extends AutoCloseable {
    /** Three orders of work that run beside one another: kernels, copies to the device, copies from it. */
    enum Lane { COMPUTE, UPLOAD, DOWNLOAD }

    /** How a matrix is stored and multiplied; TF32 is stored as F32. Sums are always fp32. */
    enum Kind {
        F32(4), TF32(4), BF16(2);

        public final int bytes;

        Kind(int bytes) {
            this.bytes = bytes;
        }
    }

    /** Which of the two operands of a product are taken transposed: N as stored, T transposed. */
    enum Form {
        NN, NT, TN, TT;

        boolean leftTransposed() {
            return this == TN || this == TT;
        }

        boolean rightTransposed() {
            return this == NT || this == TT;
        }
    }

    /** A row-major matrix: {@code ld} elements from row to row, {@code stride} elements from one of a batch to the next. */
    record Matrix(long address, Kind kind, int ld, long stride) {
        public Matrix(long address, Kind kind, int ld) {
            this(address, kind, ld, 0);
        }
    }

    /** Bytes of device memory, as the driver counts them for all processes. */
    record Room(long free, long total) {}

    /** What is known of a device; clocks in kHz, as the driver says them (0 where it does not). */
    record Properties(String name, int major, int minor, int multiprocessors, int clock, int memoryClock, int memoryBits,
                      long cacheBytes, int sharedBytes, long totalBytes, int driver, int cublas, String nvrtc) {
        /** As compilers call it: sm_80, sm_90. */
        public String architecture() {
            return "sm_" + major + minor;
        }
    }

    /** A mark in a lane that other lanes, or the host, can wait for. */
    interface Event extends AutoCloseable {
        /** Puts the mark behind everything issued so far on a lane. */
        void record(Lane lane);

        /** Holds back what will be issued on a lane until the mark is reached; the host goes on. */
        void hold(Lane lane);

        /** Holds the calling thread until the mark is reached. */
        void await();

        /** Whether the mark has been reached. */
        boolean reached();

        /** Milliseconds of the device between another mark and this one, both reached. */
        float millisSince(Event earlier);

        @Override
        void close();
    }

    /** A captured stretch of work: one launch does all of it again, at the same addresses. */
    interface Graph extends AutoCloseable {
        void launch();

        /** The number of launches, copies, fills and products it holds. */
        int nodes();

        @Override
        void close();
    }

    /** cuBLAS works in this many bytes of device memory, taken when a device is opened and held until it is closed. */
    long WORKSPACE = 32L << 20;

    Properties properties();

    Room room();

    /** Device memory, 256-byte aligned and not cleared; the name is for the table of who holds what. */
    long alloc(String name, long bytes);

    void free(long address);

    /** Page-locked host memory: the only kind whose copies run beside other work. */
    MemorySegment pinned(String name, long bytes);

    void unpin(MemorySegment pinned);

    /** Copies all of {@code from} to the device, after the compute lane's work so far; done at return. */
    void upload(long to, MemorySegment from);

    /** Copies device memory into all of {@code to}, after the compute lane's work so far; done at return. */
    void download(MemorySegment to, long from);

    /** Starts a copy to the device; {@code from} must be pinned and stay as it is until an event on the lane says so. */
    void upload(Lane lane, long to, MemorySegment from);

    /** Starts a copy from the device; {@code to} must be pinned and is to be read only after an event on the lane. */
    void download(Lane lane, MemorySegment to, long from);

    void copy(long to, long from, long bytes);

    /** Writes the same byte everywhere. */
    void fill(long to, byte value, long bytes);

    /** Writes the same 32-bit word everywhere. */
    void fill(long to, int word, long words);

    /** A kernel of {@code /kernels/<file>.cu}, compiled with {@code NAME=VALUE} defines; made once, then looked up. */
    Kernel kernel(String file, String function, String... defines);

    /** A kernel without defines. */
    Kernel kernel(String file, String function);

    /** Runs a kernel; arguments in its order: a Long for a pointer or a long long, an Integer, a Float. */
    void launch(Kernel kernel, Blocks blocks, Object... args);

    /** Runs a kernel that was compiled without defines. */
    default void launch(String file, String function, Blocks blocks, Object... args) {
        launch(kernel(file, function), blocks, args);
    }

    /** C = alpha · op(A) op(B) + beta · C for each of a batch.   C (m, n)   op(A) (m, k)   op(B) (k, n) */
    void gemm(Form form, int m, int n, int k, float alpha, Matrix a, Matrix b, float beta, Matrix c, int batch);

    /** C = alpha · op(A) op(B) + beta · C.   C (m, n)   op(A) (m, k)   op(B) (k, n) */
    default void gemm(Form form, int m, int n, int k, float alpha, Matrix a, Matrix b, float beta, Matrix c) {
        gemm(form, m, n, k, alpha, a, b, beta, c, 1);
    }

    Event event();

    /** Records what {@code work} issues on the compute lane instead of doing it; allocating or waiting in it throws. */
    Graph capture(Runnable work);

    /** Waits until everything issued on a lane is done. */
    void sync(Lane lane);

    /** Waits until everything is done. */
    void sync();

    /** Who holds which device memory, in order of allocation. */
    List<Memory.Slab> slabs();

    @Override
    void close();
}
