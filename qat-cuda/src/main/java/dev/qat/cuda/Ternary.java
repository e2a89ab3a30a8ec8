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

/** Ternary weights: a block per group, and per row for the bias of the dead zone. */
final class Ternary {
    private static final int BLOCK = 512, COUNTED = 1 << 24; // what an fp32 counts exactly

    private final Launcher on;

    Ternary(Launcher on) {
        this.on = on;
    }

    void range(Tensor scale, Tensor edge, Tensor w, Threshold rule, int group) {
        fp32(scale, edge);
        Fail.unless(group <= COUNTED, "a group of %d, expected at most %d", group, COUNTED);
        on.run("ternaryRange", "ternaryRange", rows(scale.size(), group, BLOCK), scale, edge, w, half(w), rule.ordinal(), (long) group, wide(group, w));
    }

    void forward(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits t) {
        fp32(scale, edge, shift, residual);
        on.run("ternary", "ternary", rows(scale.size(), t.group(), BLOCK), y, half(y), w, half(w), scale, edge, shift, residual, t.level(), t.edge(), t.shape().ordinal(), t.offset(),
                (long) t.group(), wide(t.group(), y, w));
    }

    void back(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits t) {
        fp32(dw, dscale, dshift, dy, scale, edge, residual);
        if (!dw.wanted() && !dscale.wanted() && !dshift.wanted()) return;
        on.run("ternary", "ternaryBack", rows(scale.size(), t.group(), BLOCK), dw, dscale, dshift, dy, w, half(w), scale, edge, residual, t.level(), t.edge(),
                t.clip(), t.beyond(), t.slope(), t.shape().ordinal(), t.offset(), (long) t.group(), wide(t.group(), dw, dy, w));
    }

    void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t) {
        Fail.unless(!t.quads(), "quads have no dead zone");
        fp32(bias, dead, plus, scale, edge, epsilon);
        on.run("reactivate", "reactivate", rows(w.rows(), w.cols(), BLOCK), bias, dead, plus, w, half(w), scale, edge, epsilon, epsilon.size() == w.size(),
                t.edge(), w.cols(), (long) t.group());
    }

    void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits t) {
        if (!dw.wanted() && !depsilon.wanted()) return;
        fp32(dw, depsilon, dy, scale, edge, epsilon);
        on.run("reactivate", "reactivateBack", rows(w.rows(), w.cols(), BLOCK), dw, depsilon, dy, w, half(w), scale, edge, epsilon,
                epsilon.size() == w.size(), t.edge(), w.cols(), (long) t.group());
    }
}
