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

    /** Threads share out rows of y, or its columns where that makes them read less of the operand they all need. */
    void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        long n = x.rows(), in = x.cols(), out = w.rows();
        float beta = bias != null || plus != null ? 1 : 0;
        if (out < (long) ROWS * team.count()) {
            team.each(n, ROWS, (t, from, to) -> {
                start(y, bias, plus, from, to);
                Blas.gemm(false, true, to - from, out, in, 1, x.address + 4 * from * in, in, w.address, in, beta, y.address + 4 * from * out, out);
            });
            return;
        }
        team.each(n, 1, (t, from, to) -> start(y, bias, plus, from, to));
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

    /** Both products in one sharing-out: a thread that is done with its part of dx goes on with its part of dw. */
    void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        long n = dy.rows(), out = dy.cols();
        team.each(team.count(), 1, (t, first, last) -> {
            for (long share = first; share < last; share++) {
                if (dx.wanted()) inputGradient(dx, dy, w, share);
                if (dw.wanted()) weightGradient(dw, dy, x, share);
            }
        });
        if (dbias.wanted()) {
            team.each(out, L, (t, from, to) -> Moves.sumRows(dbias.to().address, dbias.add(), dy.address, n, out, from, to));
        }
    }

    void inputGradient(Grad dx, Tensor dy, Tensor w) {
        team.each(team.count(), 1, (t, from, to) -> {
            for (long share = from; share < to; share++) inputGradient(dx, dy, w, share);
        });
    }

    void weightGradient(Grad dw, Tensor dy, Tensor x) {
        team.each(team.count(), 1, (t, from, to) -> {
            for (long share = from; share < to; share++) weightGradient(dw, dy, x, share);
        });
    }

    /** Where the {@code share}-th of the team's equal shares of n rows begins. */
    private long cut(long n, long share) {
        return share == team.count() ? n : n / ROWS * share / team.count() * ROWS;
    }

    /** A share of dx (+)= dy · w: of its rows, or of its columns where they are more. */
    private void inputGradient(Grad dx, Tensor dy, Tensor w, long share) {
        long n = dy.rows(), in = w.cols(), out = w.rows(), cells = Math.max(n, in), from = cut(cells, share), size = cut(cells, share + 1) - from;
        if (size == 0) return;
        float beta = dx.add() ? 1 : 0;
        long to = dx.to().address;
        if (n >= in) Blas.gemm(false, false, size, in, out, 1, dy.address + 4 * from * out, out, w.address, in, beta, to + 4 * from * in, in);
        else Blas.gemm(false, false, n, size, out, 1, dy.address, out, w.address + 4 * from, in, beta, to + 4 * from, in);
    }

    /** A share of dw (+)= dyᵀ · x: of its rows, or of its columns where they are more. */
    private void weightGradient(Grad dw, Tensor dy, Tensor x, long share) {
        long n = dy.rows(), in = x.cols(), out = dy.cols(), cells = Math.max(out, in), from = cut(cells, share), size = cut(cells, share + 1) - from;
        if (size == 0) return;
        float beta = dw.add() ? 1 : 0;
        long to = dw.to().address;
        if (out >= in) Blas.gemm(true, false, size, in, n, 1, dy.address + 4 * from, out, x.address, in, beta, to + 4 * from * in, in);
        else Blas.gemm(true, false, out, size, n, 1, dy.address, out, x.address + 4 * from, in, beta, to + 4 * from, in);
    }
}
