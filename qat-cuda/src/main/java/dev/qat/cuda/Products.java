package dev.qat.cuda;

import dev.qat.cuda.Device.Form;
import dev.qat.cuda.Device.Kind;
import dev.qat.cuda.Device.Matrix;
import dev.qat.ops.Grad;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/**
 * Products of row-major matrices in the recipe's precision, one launch each.
 *
 * <p>Whatever is added to is added by the product itself (beta = 1), so a gradient costs no pass of its own. In letters:
 * y = x wᵀ is NT, dx = dy w is NN, dw = dyᵀ x is TN.
 */
final class Products {
    private final Device device;
    private final Precision precision;

    Products(Device device, Precision precision) {
        this.device = device;
        this.precision = precision;
    }

    /** c (+)= op(a) · op(b) of two tensors in operand type. */
    void times(Form form, Grad c, Tensor a, Tensor b) {
        times(form, c, matrix(a, a.cols()), a.rows(), a.cols(), matrix(b, b.cols()), b.rows(), b.cols());
    }

    /** The same with slopes that a loss left where logits were: in BF16 in the first half of each fp32 row. */
    void timesSlope(Form form, Grad c, Tensor slope, Tensor b) {
        long cols = slope.cols();
        boolean narrow = precision.operand == DType.BF16;
        Matrix a = new Matrix(slope.address, precision.kind, Math.toIntExact(narrow ? 2 * cols : cols));
        times(form, c, a, slope.rows(), cols, matrix(b, b.cols()), b.rows(), b.cols());
    }

    private void times(Form form, Grad c, Matrix a, long aRows, long aCols, Matrix b, long bRows, long bCols) {
        long m = form.leftTransposed() ? aCols : aRows, k = form.leftTransposed() ? aRows : aCols;
        long n = form.rightTransposed() ? bRows : bCols, kb = form.rightTransposed() ? bCols : bRows;
        Tensor to = c.to();
        Fail.unless(k == kb && to.size() == m * n && to.type == DType.F32, "product %s of (%d, %d) and (%d, %d) into %s", form, aRows,
                aCols, bRows, bCols, to);
        device.gemm(form, Math.toIntExact(m), Math.toIntExact(n), Math.toIntExact(k), 1, a, b, c.add() ? 1 : 0,
                new Matrix(to.address, Kind.F32, Math.toIntExact(n)));
    }

    private Matrix matrix(Tensor t, long ld) {
        Fail.unless(t.type == precision.operand, "%s in a product whose operands are %s", t, precision.operand);
        return new Matrix(t.address, precision.kind, Math.toIntExact(ld));
    }
}
