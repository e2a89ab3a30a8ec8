package dev.qat.cuda;

import static dev.qat.cuda.Launcher.flat;
import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.half;
import static dev.qat.cuda.Launcher.lanes;
import static dev.qat.cuda.Launcher.rows;
import static dev.qat.cuda.Launcher.toInt;
import static dev.qat.cuda.Launcher.wide;
import static dev.qat.cuda.Launcher.wideFlat;

import dev.qat.ops.Grad;
import dev.qat.ops.Grid;
import dev.qat.ops.RowGrid;
import dev.qat.ops.Snap;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

/** The quantizers: one launch each, values with the reference's bits. */
final class Quantizers {
    private static final int BLOCK = 256, ROW_BLOCK = 512, CODES = 8;
    /** A group is cut into slices of this many elements where there are fewer than so many groups. */
    private static final int SLICE = 4096, FEW = 4096, SLICES = 8192;

    private final Launcher on;

    Quantizers(Launcher on) {
        this.on = on;
    }

    void groupRange(Tensor step, Tensor zero, Tensor w, Grid grid) {
        fp32(step, zero);
        int G = grid.group(), groups = toInt(step.size());
        on.run("groupRange", "groupRange", Launcher.groups(groups, lanes(G)), step, zero, w, half(w), (float) grid.maxCode(), (float) grid.given(),
                grid.minimum(), groups, G, lanes(G), wide(G, w));
    }

    void minMaxQuant(Tensor y, Tensor w, Grid grid) {
        int G = grid.group(), groups = toInt(w.size() / G);
        on.run("minMaxQuant", "minMaxQuant", Launcher.groups(groups, lanes(G)), y, half(y), w, half(w), (float) grid.maxCode(), groups, G, lanes(G),
                wide(G, y, w));
    }

    void minMaxQuantBack(Grad dw, Tensor dy, Tensor w, Grid grid) {
        fp32(dw, dy);
        if (!dw.wanted()) return;
        int G = grid.group(), groups = toInt(w.size() / G);
        on.run("minMaxQuant", "minMaxQuantBack", Launcher.groups(groups, lanes(G)), dw, dy, w, half(w), (float) grid.maxCode(), groups, G, lanes(G),
                wide(G, dw, dy, w));
    }

    void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid) {
        fp32(step, zero);
        int G = grid.group(), groups = toInt(step.size());
        on.run("fakeQuant", "fakeQuant", Launcher.groups(groups, lanes(G)), y, half(y), w, half(w), step, zero, (float) grid.maxCode(),
                grid.minimum(), groups, G, lanes(G), wide(G, y, w));
    }

    void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid) {
        fp32(dw, dstep, dzero, dy, step, zero);
        if (!dw.wanted() && !dstep.wanted() && !dzero.wanted()) return;
        int G = grid.group(), groups = toInt(step.size());
        on.run("fakeQuant", "fakeQuantBack", Launcher.groups(groups, lanes(G)), dw, dstep, dzero, dy, w, half(w), step, zero,
                (float) grid.maxCode(), grid.minimum(), groups, G, lanes(G), wide(G, dw, dy, w));
    }

    void pack(PackedWeight p, Tensor w, Tensor step, Tensor zero) {
        fp32(step, zero, p.step(), p.zero());
        int words = toInt(p.words().cols());
        on.run("pack", "pack", rows(p.rows(), 4L * words, BLOCK), p.words(), p.step(), p.zero(), w, half(w), step, zero, p.bits(), p.minimum(),
                toInt(p.cols()), p.group(), words);
    }

    void dequantize(Tensor y, PackedWeight p, Tensor step) {
        fp32(step);
        boolean wide = p.cols() % CODES == 0 && y.address % 16 == 0;
        on.run("dequantize", "dequantize", rows(p.rows(), p.cols() / 2, BLOCK), y, half(y), p.words(), step, p.zero(), p.narrow(), p.bits(), p.minimum(),
                toInt(p.cols()), p.group(), toInt(p.words().cols()), wide);
    }

    void dequantizeBack(Grad dstep, Tensor dy, PackedWeight p) {
        if (!dstep.wanted()) return;
        fp32(dstep, dy);
        int G = p.group(), groups = toInt(p.step().size());
        on.run("dequantize", "dequantizeBack", Launcher.groups(groups, lanes(G)), dstep, dy, p.words(), p.zero(), p.narrow(), p.bits(), p.minimum(), toInt(p.cols()), G,
                toInt(p.words().cols()), groups, lanes(G), wide(G, dy));
    }

    void snap(Tensor y, Tensor x, Snap how) {
        fp32(y, x);
        long runs = how.block() == 0 ? y.size() : Math.ceilDiv(y.size(), how.block());
        on.run("snap", how.block() == 0 ? "snap" : "snapBlocks", Blocks.cover(runs, BLOCK, BLOCK), y, x, y.size(), how.low(), how.high(),
                how.half().ordinal(), how.block(), (float) how.least());
    }

    // ---- learned steps -----------------------------------------------------------------------------------------------

    /** How groups are cut: into one slice each, unless few groups are long (one step for a whole activation). */
    private record Slices(int groups, long G, int each, long span) {
        static Slices of(long size, int group) {
            long groups = size / group, most = Math.max(1, SLICES / groups);
            long each = groups < FEW ? Math.clamp(Math.ceilDiv(group, SLICE), 1, most) : 1;
            long span = Math.ceilDiv(Math.ceilDiv(group, each), Launcher.VECTOR) * Launcher.VECTOR;
            return new Slices(toInt(groups), group, toInt(Math.ceilDiv(group, span)), span);
        }

        Blocks blocks() {
            return Launcher.groups((long) groups * each, lanes());
        }

        int lanes() {
            return Launcher.lanes(Math.min(span, G));
        }
    }

    void lsq(Tensor y, Tensor w, Tensor step, Grid grid) {
        fp32(step);
        Slices s = Slices.of(w.size(), grid.group());
        on.run("lsq", "lsq", s.blocks(), y, half(y), w, half(w), step, (float) grid.lowest(), (float) grid.highest(), s.groups, s.G, s.each,
                s.span, s.lanes(), wide(s.groups == 1 ? Launcher.VECTOR : s.G, y, w));
    }

    void lsqBack(Grad dw, Grad dstep, Tensor dy, Tensor w, Tensor step, Grid grid) {
        fp32(dw, dstep, dy, step);
        if (!dw.wanted() && !dstep.wanted()) return;
        Slices s = Slices.of(w.size(), grid.group());
        boolean parts = dstep.wanted() && s.each > 1;
        float factor = (float) (1 / Math.sqrt((double) s.G * grid.highest()));
        on.run("lsq", "lsqBack", s.blocks(), dw, parts ? new Grad(on.scratch, false) : dstep, factor, dy, w, half(w), step, (float) grid.lowest(),
                (float) grid.highest(), s.groups, s.G, s.each, s.span, s.lanes(), wide(s.groups == 1 ? Launcher.VECTOR : s.G, dw, dy, w));
        if (parts) on.run("lsq", "lsqBackParts", Blocks.of(s.groups, Reductions.last(s.each).threads()), dstep, on.scratch, s.each);
    }

    // ---- rows --------------------------------------------------------------------------------------------------------

    void rowQuant(Tensor y, Tensor x, RowGrid grid) {
        int C = toInt(x.cols());
        float top = (1 << (grid.symmetric() ? grid.bits() - 1 : grid.bits())) - 1;
        on.run("rowQuant", "rowQuant", rows(x.rows(), C, ROW_BLOCK), y, half(y), x, half(x), grid.symmetric(), top, C, wide(C, y, x));
    }

    void rowQuantBack(Grad dx, Tensor dy, Tensor x, RowGrid grid) {
        if (!dx.wanted()) return;
        fp32(dx, dy);
        on.run("rowQuant", "rowQuantBack", flat(dy.size()), dx, dy, x, half(x), grid.window(), dy.size(), wideFlat(dx, dy, x));
    }

    // ---- keys and values as integers ---------------------------------------------------------------------------------

    void cachePack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid) {
        fp32(scales, x);
        int M = toInt(grid.parts(scales)), C = toInt(x.cols()) / M;
        on.run("cachePack", "cachePack", rows(x.rows() * M, C, BLOCK), codes, scales, x, positions, grid.bits(), grid.symmetric(), toInt(codes.dim(1)), M, C,
                toInt(codes.cols()) / M, wide(C, x));
    }

    void cacheUnpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid) {
        fp32(y, scales);
        int M = toInt(grid.parts(scales)), C = toInt(y.cols()) / M;
        on.run("cachePack", "cacheUnpack", rows(y.rows() * M, C, BLOCK), y, codes, scales, lengths, grid.bits(), grid.symmetric(), toInt(y.dim(1)), M, C,
                toInt(codes.cols()) / M, wide(C, y));
    }
}
