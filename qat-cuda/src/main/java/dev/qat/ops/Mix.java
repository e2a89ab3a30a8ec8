package dev.qat.ops;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/**
 * How heads are multiplied by matrices: x is (P, H, D, inner), matrices (K·D, D) lie one below the other, and head h takes the
 * (h / repeat)-th. Rows of activations are P with inner = 1; the rows of a weight (H·D, I) that makes them have inner = I.
 *
 * @param repeat      query heads of a group, which share a matrix; 1 where each head has its own
 * @param transposed  y = Mᵀ x instead of M x
 */
public record Mix(int repeat, int inner, boolean transposed) {
    public Mix {
        Fail.unless(repeat > 0 && inner > 0, "matrices of heads: repeat=%d inner=%d", repeat, inner);
    }

    /** The transpose, which carries gradients back. */
    public Mix back() {
        return new Mix(repeat, inner, !transposed);
    }

    /** H of the matrices m (K·D, D). */
    public int heads(Tensor m) {
        return Math.toIntExact(m.rows() / m.cols() * repeat);
    }

    /** P of x. */
    public int outer(Tensor x, Tensor m) {
        long slab = heads(m) * m.cols() * inner;
        Fail.unless(m.rows() % m.cols() == 0 && x.size() % slab == 0, "%s is not made of %d heads of %d by %d", x, heads(m), m.cols(), inner);
        return Math.toIntExact(x.size() / slab);
    }
}
