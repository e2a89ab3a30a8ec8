package dev.qat.cuda;

import dev.qat.ops.Grad;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/**
 * Launches kernels on tensors: turns tensors, gradients and flags into a kernel's arguments and a shape into its blocks.
 *
 * <p>A tensor becomes its address, a {@link Grad} its address (0 for none) and 1 to add, 0 to write, 2 to write BF16; a boolean 0 or 1. Kernels take
 * four elements a thread, so {@link #wide} says whether every row of every tensor begins on a vector's address.
 */
final class Launcher {
    /** fp32 partial sums that any reduction may leave between its two phases. */
    static final int SCRATCH = 32_768;
    /** Elements of one thread. */
    static final int VECTOR = 4;
    private static final int WARP = 32, FLAT = 256;

    final Device device;
    /** Where the partial sums of a reduction lie; one stream, so one such place. */
    final Tensor scratch;

    Launcher(Device device, Tensor scratch) {
        this.device = device;
        this.scratch = scratch;
    }

    /** Runs {@code function} of {@code file}.cu. */
    void run(String file, String function, Blocks blocks, Object... args) {
        device.launch(device.kernel(file, function), blocks, plain(args));
    }

    /** The same, compiled with a define. */
    void run(String define, String file, String function, Blocks blocks, Object... args) {
        device.launch(device.kernel(file, function, define), blocks, plain(args));
    }

    private static Object[] plain(Object[] args) {
        int gradients = 0;
        for (Object a : args) if (a instanceof Grad) gradients++;
        Object[] out = new Object[args.length + gradients];
        int n = 0;
        for (Object a : args) {
            switch (a) {
                case null -> out[n++] = 0L;
                case Tensor t -> out[n++] = t.address;
                case Grad g -> {
                    out[n++] = g.wanted() ? g.to().address : 0L;
                    boolean narrow = g.wanted() && half(g.to());
                    Fail.unless(!narrow || !g.add(), "nothing is added to %s, which is BF16", g.to());
                    out[n++] = g.add() ? 1 : narrow ? 2 : 0;
                }
                case Boolean flag -> out[n++] = flag ? 1 : 0;
                default -> out[n++] = a;
            }
        }
        return out;
    }

    // ---- shapes to blocks --------------------------------------------------------------------------------------------

    /** A thread per vector of a flat tensor. */
    static Blocks flat(long n) {
        int threads = threads(n, FLAT);
        return Blocks.cover(n, VECTOR * threads, threads);
    }

    /** A block per row, its threads sharing the row's vectors. */
    static Blocks rows(long rows, long cols, int most) {
        return Blocks.of(rows, threads(cols, most));
    }

    /** {@code lanes} neighbouring threads per group. */
    static Blocks groups(long groups, int lanes) {
        int threads = (int) Math.min(FLAT, Math.ceilDiv(groups * lanes, WARP) * WARP);
        return Blocks.cover(groups * lanes, threads, threads);
    }

    /** How many neighbouring threads share a group: a power of two, at most a warp. */
    static int lanes(long group) {
        int lanes = 1;
        while (lanes < WARP && (long) lanes * VECTOR < group) lanes *= 2;
        return lanes;
    }

    private static int threads(long elements, int most) {
        return (int) Math.min(most, Math.ceilDiv(Math.max(elements, 1), VECTOR * WARP) * WARP);
    }

    // ---- what a kernel must know of a tensor ---------------------------------------------------------------------------

    /** Whether all tensors (null and NONE aside) can be read and written by vectors, row by row of {@code cols} elements. */
    static boolean wide(long cols, Object... tensors) {
        if (cols % VECTOR != 0) return false;
        for (Object o : tensors) if (!aligned(o instanceof Grad g ? g.to() : (Tensor) o)) return false;
        return true;
    }

    /** The same for tensors without rows. */
    static boolean wideFlat(Object... tensors) {
        return wide(VECTOR, tensors);
    }

    private static boolean aligned(Tensor t) {
        return t == null || t.address % ((long) VECTOR * t.type.bytes) == 0;
    }

    /** Whether a kernel that takes either is given BF16. */
    static boolean half(Tensor t) {
        Fail.unless(t.type == DType.F32 || t.type == DType.BF16, "%s holds no floats", t);
        return t.type == DType.BF16;
    }

    /** Refuses what a kernel would misread. */
    static void fp32(Object... tensors) {
        for (Object o : tensors) {
            Tensor t = o instanceof Grad g ? g.to() : (Tensor) o;
            Fail.unless(t == null || t.type == DType.F32, "%s where the CUDA backend takes F32", t);
        }
    }

    static int toInt(long n) {
        return Math.toIntExact(n);
    }
}
