package dev.qat.cuda;

import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.half;
import static dev.qat.cuda.Launcher.rows;
import static dev.qat.cuda.Launcher.wide;

import dev.qat.ops.Grad;
import dev.qat.ops.Threshold;
import dev.qat.ops.Trits;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/** Ternary weights: a block per group, several for a long one, and per row for the bias of the dead zone. */
final class Ternary {
    private static final int BLOCK = 512, WARP = 32;
    /** Groups longer than this are shared by blocks of at least so many elements, as long as there are not more than so many blocks. */
    private static final int LONG = 32_768, PIECE = 8_192, BLOCKS = 1024;
    /** A median's digits, highest first. */
    private static final int DIGIT = 4, FIRST_SHIFT = 28;

    private final Launcher on;

    Ternary(Launcher on) {
        this.on = on;
    }

    /** How many blocks share a group, and the elements of each; by sizes alone, so that the same sizes give the same bits. */
    record Split(int blocks, long span) {
        static Split of(long groups, long group) {
            long blocks = group <= LONG ? 1 : Math.clamp(BLOCKS / groups, 1, Math.ceilDiv(group, PIECE));
            long span = Math.ceilDiv(Math.ceilDiv(group, blocks), Launcher.VECTOR) * Launcher.VECTOR;
            return new Split((int) Math.ceilDiv(group, span), span);
        }
    }

    void range(Tensor scale, Tensor edge, Tensor w, Threshold rule, int group) {
        fp32(scale, edge);
        Split s = Split.of(scale.size(), group);
        if (s.blocks > 1) rangeOfLong(scale, edge, w, rule, group, s);
        else on.run("ternaryRange", "ternaryRange", rows(scale.size(), group, BLOCK), scale, edge, w, half(w), rule.ordinal(), (long) group, wide(group, w));
    }

    private void rangeOfLong(Tensor scale, Tensor edge, Tensor w, Threshold rule, long group, Split s) {
        Blocks all = rows(scale.size() * s.blocks, s.span, BLOCK), last = Blocks.of(scale.size(), WARP);
        if (rule == Threshold.MEDIAN) {
            for (int shift = FIRST_SHIFT; shift >= 0; shift -= DIGIT) {
                on.run("ternaryRange", "ternaryRangeDigits", all, on.scratch, w, half(w), edge, shift, group, s.span, s.blocks);
                on.run("ternaryRange", "ternaryRangeDigit", last, scale, edge, on.scratch, shift, s.blocks, group);
            }
            return;
        }
        on.run("ternaryRange", "ternaryRangeSum", all, on.scratch, w, half(w), rule.ordinal(), group, s.span, s.blocks, wide(group, w));
        on.run("ternaryRange", "ternaryRangeMean", last, scale, edge, on.scratch, s.blocks, rule.ordinal(), group);
        if (rule != Threshold.TWN) return;
        on.run("ternaryRange", "ternaryRangeBeyond", all, on.scratch, w, half(w), edge, group, s.span, s.blocks);
        on.run("ternaryRange", "ternaryRangeRatio", last, scale, on.scratch, s.blocks);
    }

    void forward(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits t) {
        fp32(scale, edge, shift, residual);
        Split s = Split.of(scale.size(), t.group());
        on.run("ternary", "ternary", rows(scale.size() * s.blocks, s.span, BLOCK), y, half(y), w, half(w), scale, edge, shift, residual, t.level(), t.edge(), t.shape().ordinal(), t.offset(),
                (long) t.group(), s.span, s.blocks, wide(t.group(), y, w));
    }

    void back(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits t) {
        fp32(dw, dscale, dshift, dy, scale, edge, residual);
        if (!dw.wanted() && !dscale.wanted() && !dshift.wanted()) return;
        Split s = Split.of(scale.size(), t.group());
        on.run("ternary", "ternaryBack", rows(scale.size() * s.blocks, s.span, BLOCK), dw, dscale, dshift, dy, w, half(w), scale, edge, residual, t.level(), t.edge(),
                t.clip(), t.beyond(), t.slope(), t.shape().ordinal(), t.offset(), (long) t.group(), s.span, s.blocks, on.scratch, wide(t.group(), dw, dy, w));
        if (s.blocks > 1 && (dscale.wanted() || dshift.wanted())) {
            on.run("ternary", "ternaryBackParts", Blocks.of(scale.size(), WARP), dscale, dshift, on.scratch, s.blocks, t.slope());
        }
    }

    void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t, boolean sign) {
        Fail.unless(!t.quads(), "quads have no dead zone");
        fp32(bias, dead, plus, scale, edge, epsilon);
        on.run("reactivate", "reactivate", rows(w.rows(), w.cols(), BLOCK), bias, dead, plus, w, half(w), scale, edge, epsilon, epsilon.size() == w.size(), sign,
                t.edge(), w.cols(), (long) t.group());
    }

    void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t, boolean sign) {
        if (!dw.wanted() && !depsilon.wanted()) return;
        fp32(dw, depsilon, dy, scale, edge, epsilon);
        on.run("reactivate", "reactivateBack", rows(w.rows(), w.cols(), BLOCK), dw, depsilon, dy, w, half(w), scale, edge, epsilon,
                epsilon.size() == w.size(), sign, t.edge(), w.cols(), (long) t.group());
    }
}
