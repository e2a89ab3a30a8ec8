package dev.qat.cuda;

import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.wideFlat;

import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;

/** Sums over whole tensors and over columns: parts in the backend's scratch, then the parts in order. Two launches at most. */
final class Reductions {
    private static final int THREADS = 256, PARTS = 1024, LEAST = 8192;
    /** Blocks that a sum over columns aims at, rows that are worth a block of their own, and columns of a block. */
    private static final int COLUMN_BLOCKS = 512, LEAST_ROWS = 64, COLUMNS = 32;

    private final Launcher on;

    Reductions(Launcher on) {
        this.on = on;
    }

    /** How a tensor is cut into contiguous parts: by its size alone, so that the same sizes give the same bits. */
    record Cut(int parts, long span) {
        static Cut of(long n) {
            long parts = Math.clamp(Math.ceilDiv(n, LEAST), 1, PARTS);
            long span = Math.ceilDiv(Math.ceilDiv(n, parts), Launcher.VECTOR) * Launcher.VECTOR;
            return new Cut((int) Math.ceilDiv(n, span), span);
        }

        Blocks blocks() {
            return Blocks.of(parts, (int) Math.min(THREADS, Math.ceilDiv(span, 4L * Launcher.VECTOR * 32) * 32));
        }
    }

    void sum(Tensor y, Tensor x, float s) {
        fp32(y, x);
        Cut cut = Cut.of(x.size());
        on.run("sum", "sum", cut.blocks(), on.scratch, x, x.size(), cut.span, wideFlat(x));
        on.run("sum", "sumParts", last(cut.parts), y, on.scratch, cut.parts, s);
    }

    void sumSquares(Tensor y, Tensor x) {
        fp32(y, x);
        Cut cut = Cut.of(x.size());
        on.run("sumSquares", "sumSquares", cut.blocks(), on.scratch, x, x.size(), cut.span, wideFlat(x));
        on.run("sumSquares", "sumSquaresParts", last(cut.parts), y, on.scratch, cut.parts);
    }

    void mse(Tensor loss, Grad dx, Tensor x, Tensor target) {
        fp32(loss, dx, x, target);
        Cut cut = Cut.of(x.size());
        on.run("mse", "mse", cut.blocks(), on.scratch, dx, x, target, (float) (2.0 / x.size()), x.size(), cut.span, wideFlat(dx, x, target));
        on.run("mse", "mseParts", last(cut.parts), loss, on.scratch, cut.parts, x.size());
    }

    /** One block that adds up {@code parts} numbers. */
    static Blocks last(int parts) {
        return Blocks.of(1, Math.min(THREADS, Math.ceilDiv(parts, 32) * 32));
    }

    // ---- over columns ------------------------------------------------------------------------------------------------

    /** How many slabs the rows of a matrix are cut into when its columns are summed, and the rows of each. */
    record Slabs(int count, long span, long cols) {
        static Slabs of(long rows, long cols) {
            long wish = Math.ceilDiv(COLUMN_BLOCKS, Math.ceilDiv(cols, COLUMNS));
            long count = Math.clamp(Math.min(wish, Launcher.SCRATCH / cols), 1, Math.max(1, rows / LEAST_ROWS));
            long span = Math.ceilDiv(rows, count);
            return new Slabs((int) Math.ceilDiv(rows, span), span, cols);
        }

        Blocks blocks() {
            return Blocks.of(Math.ceilDiv(cols, COLUMNS), count, THREADS);
        }
    }

    /** dbias (+)= Σ_n dy_n */
    void columns(Grad dbias, Tensor dy) {
        Slabs slabs = Slabs.of(dy.rows(), dy.cols());
        Grad first = slabs.count == 1 ? dbias : new Grad(on.scratch, false);
        int cols = Launcher.toInt(dy.cols());
        on.run("linear", "linearBackBias", slabs.blocks(), first, dy, Launcher.half(dy), dy.rows(), cols, slabs.span);
        if (slabs.count > 1) {
            Slabs all = new Slabs(1, slabs.count, cols);
            on.run("linear", "linearBackBias", all.blocks(), dbias, on.scratch, false, (long) slabs.count, cols, all.span);
        }
    }

    /** dgain (+)= Σ_m dy · x · rstd */
    void gain(Grad dgain, Tensor dy, Tensor x, Tensor rstd, int cols) {
        long rows = x.size() / cols;
        Slabs slabs = Slabs.of(rows, cols);
        Grad first = slabs.count == 1 ? dgain : new Grad(on.scratch, false);
        on.run("rmsnorm", "rmsnormBackGain", slabs.blocks(), first, dy, x, rstd, rows, cols, slabs.span);
        if (slabs.count > 1) {
            on.run("rmsnorm", "rmsnormBackGainParts", Blocks.cover(cols, THREADS, THREADS), dgain, on.scratch, slabs.count, cols);
        }
    }

    /** Σ_n dy · x per column and slab of rows, left in the scratch (count, cols); answers count. */
    int products(Tensor dy, Tensor x) {
        Slabs slabs = Slabs.of(x.rows(), x.cols());
        on.run("channelScale", "channelScaleBackParts", slabs.blocks(), on.scratch, dy, x, x.rows(), Launcher.toInt(x.cols()), slabs.span);
        return slabs.count;
    }
}
