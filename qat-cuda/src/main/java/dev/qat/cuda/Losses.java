package dev.qat.cuda;

import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.rows;
import static dev.qat.cuda.Launcher.toInt;
import static dev.qat.cuda.Launcher.wide;

import dev.qat.cuda.Device.Form;
import dev.qat.ops.Divergence;
import dev.qat.ops.Grad;
import dev.qat.ops.Sampling;
import dev.qat.tensor.DType;
import dev.qat.tensor.Tensor;

/**
 * Head and loss in chunks of rows: logits by a product into the scratch, loss and slope by one kernel in place, gradients by
 * two products. Per chunk four launches (five with a teacher), fewer where a gradient is frozen.
 */
final class Losses {
    private static final int BLOCK = 512;

    /** What is done with rows [from, from + count), whose student's logits are at hand. */
    private interface Chunk {
        void run(Tensor logits, long from, long count);
    }

    private final Launcher on;
    private final Products products;
    /** Whether slopes are written for products that read BF16. */
    private final boolean half;

    Losses(Launcher on, Products products, Precision precision) {
        this.on = on;
        this.products = products;
        this.half = precision.operand == DType.BF16;
    }

    void crossEntropy(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor x, Tensor w, Tensor targets, float weight) {
        fp32(loss, dx, dw, logits);
        boolean back = dx.wanted() || dw.wanted();
        int V = toInt(w.rows());
        chunks(logits, x, w, (z, from, count) -> {
            on.run("crossEntropy", "crossEntropy", rows(count, V, BLOCK), loss.view(from, count), z, targets.view(from, count), V, weight,
                    back, half, wide(V, z));
            gradients(dx, dw, z, x, w, from, count);
        });
    }

    void distill(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets,
                 Divergence d, float weight) {
        fp32(loss, dx, dw, logits, tlogits);
        boolean back = dx.wanted() || dw.wanted();
        int V = toInt(w.rows());
        chunks(logits, x, w, (z, from, count) -> {
            Tensor y = logits(tlogits, tx, tw, from, count);
            on.run("distill", "distill", rows(count, V, BLOCK), loss.view(from, count), z, y, targets.view(from, count), V,
                    d.jensenShannon(), d.reverse(), d.hard(), d.temperature(), weight, back, half, wide(V, z, y));
            gradients(dx, dw, z, x, w, from, count);
        });
    }

    void compare(Tensor stats, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets) {
        fp32(stats, logits, tlogits);
        int V = toInt(w.rows());
        chunks(logits, x, w, (z, from, count) -> {
            Tensor y = logits(tlogits, tx, tw, from, count);
            on.run("compare", "compare", rows(count, V, BLOCK), stats.view(3 * from, count, 3), z, y, targets.view(from, count), V, wide(V, z, y));
        });
    }

    /** Drawn by one kernel, without sorting; see sample.cu. */
    void sample(Tensor ids, Tensor logits, Tensor keys, Sampling s) {
        fp32(logits);
        on.run("sample", "sample", rows(ids.size(), logits.cols(), BLOCK), ids, logits, keys, toInt(logits.cols()), s.temperature(),
                s.topK(), s.topP(), (int) s.seed(), (int) (s.seed() >>> 32));
    }

    private void chunks(Tensor scratch, Tensor x, Tensor w, Chunk chunk) {
        long N = x.rows(), most = scratch.rows();
        for (long from = 0; from < N; from += most) {
            long count = Math.min(most, N - from);
            chunk.run(logits(scratch, x, w, from, count), from, count);
        }
    }

    /** Rows of x · wᵀ, in the scratch. */
    private Tensor logits(Tensor scratch, Tensor x, Tensor w, long from, long count) {
        Tensor z = scratch.view(0, count, w.rows());
        products.times(Form.NT, new Grad(z, false), x.view(from * x.cols(), count, x.cols()), w);
        return z;
    }

    /** dx rows (+)= slope · w;  dw (+)= slopeᵀ · x rows, added to from the second chunk on. */
    private void gradients(Grad dx, Grad dw, Tensor slope, Tensor x, Tensor w, long from, long count) {
        long C = x.cols();
        if (dx.wanted()) products.timesSlope(Form.NN, new Grad(dx.to().view(from * C, count, C), dx.add()), slope, w);
        if (dw.wanted()) products.timesSlope(Form.TN, new Grad(dw.to(), dw.add() || from > 0), slope, x.view(from * C, count, C));
    }
}
