package dev.qat.ops;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/**
 * Min-max quantization with one scale per row, no parameters (LLM-QAT, arXiv 2305.17888 §2.2 and its official constants).
 *
 * @param window when true the gradient passes only where |x| < 2, as in the official code; false is plain straight-through
 */
public record RowGrid(int bits, boolean symmetric, boolean window) {
    public RowGrid {
        Fail.unless(2 <= bits && bits <= 16, "a row grid of %d bits, expected 2 to 16", bits);
    }

    /** Numbers kept with the codes of a row: its scale, without symmetry its range and its minimum. */
    public int numbers() {
        return symmetric ? 1 : 2;
    }

    /** Parts of a token with a scale of their own.   scales (…, parts · numbers) */
    public long parts(Tensor scales) {
        return scales.cols() / numbers();
    }
}
