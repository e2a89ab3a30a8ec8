package dev.qat.cpu;

import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;

import static dev.qat.cpu.Lanes.L;

/** Products with a weight, through OpenBLAS; every thread multiplies its own rows (or columns, where rows are few). */
final class Products {
    private static final int ROWS = 16;

    private final Threads team;

    Products(Threads team) {
        this.team = team;
    }

    void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        long n = x.rows(), in = x.cols(), out = w.rows();
        float beta = bias != null || plus != null ? 1 : 0;
        if (n >= (long) ROWS * team.count()) {
            team.each(n, ROWS, (t, from, to) -> {
                start(y, bias, plus, from, to);
                Blas.gemm(false, true, to - from, out, in, 1, x.address + 4 * from * in, in, w.address, in, beta, y.address + 4 * from * out, out);
            });
            return;
        }
        start(y, bias, plus, 0, n);
        team.each(out, ROWS, (t, from, to) ->
                Blas.gemm(false, true, n, to - from, in, 1, x.address, in, w.address + 4 * from * in, in, beta, y.address + 4 * from, out));
    }

    /** What the product is added to: bias + plus, for rows from..to. */
    private static void start(Tensor y, Tensor bias, Tensor plus, long from, long to) {
        if (bias == null && plus == null) return;
        long out = y.cols();
        for (long r = from; r < to; r++) {
            long at = 4 * r * out;
            if (plus == null) Moves.copyRow(y.address + at, bias.address, out);
            else if (bias == null) Moves.copyRow(y.address + at, plus.address + at, out);
            else Moves.addRow(y.address + at, plus.address + at, bias.address, out);
        }
    }

    void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        if (dx.wanted()) inputGradient(dx, dy, w);
        if (dw.wanted()) weightGradient(dw, dy, x);
        if (dbias.wanted()) {
            team.each(dy.cols(), L, (t, from, to) -> Moves.sumRows(dbias.to().address, dbias.add(), dy.address, dy.rows(), dy.cols(), from, to));
        }
    }

    /** dx (+)= dy · w */
    void inputGradient(Grad dx, Tensor dy, Tensor w) {
        long n = dy.rows(), in = w.cols(), out = w.rows();
        float beta = dx.add() ? 1 : 0;
        team.each(n, ROWS, (t, from, to) -> Blas.gemm(false, false, to - from, in, out, 1, dy.address + 4 * from * out, out,
                w.address, in, beta, dx.to().address + 4 * from * in, in));
    }

    /** dw (+)= dyᵀ · x */
    void weightGradient(Grad dw, Tensor dy, Tensor x) {
        long n = dy.rows(), in = x.cols(), out = dy.cols();
        float beta = dw.add() ? 1 : 0;
        team.each(out, ROWS, (t, from, to) -> Blas.gemm(true, false, to - from, in, n, 1, dy.address + 4 * from, out,
                x.address, in, beta, dw.to().address + 4 * from * in, in));
    }
}
