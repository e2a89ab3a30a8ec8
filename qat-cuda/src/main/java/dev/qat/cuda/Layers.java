package dev.qat.cuda;

import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.half;
import static dev.qat.cuda.Launcher.rows;
import static dev.qat.cuda.Launcher.toInt;
import static dev.qat.cuda.Launcher.wide;

import dev.qat.cuda.Device.Form;
import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;

/** The decoder's ops but for attention: rows of a table, products with what surrounds them, norms, rotations. */
final class Layers {
    private static final int BLOCK = 256, NORM_BLOCK = 512;

    private final Launcher on;
    private final Products products;
    private final Reductions reductions;

    Layers(Launcher on, Products products, Reductions reductions) {
        this.on = on;
        this.products = products;
        this.reductions = reductions;
    }

    void embed(Tensor y, Tensor ids, Tensor table) {
        fp32(y);
        int V = toInt(table.rows()), C = toInt(table.cols());
        on.run("embed", "embed", rows(ids.size(), C, BLOCK), y, ids, table, half(table), V, C, wide(C, y, table));
    }

    void embedBack(Grad dtable, Tensor dy, Tensor ids) {
        if (!dtable.wanted()) return;
        fp32(dtable, dy);
        if (!dtable.add()) on.device.fill(dtable.to().address, (byte) 0, dtable.to().bytes());
        int V = toInt(dtable.to().rows()), C = toInt(dy.cols());
        on.run("embed", "embedBack", rows(ids.size(), C, BLOCK), dtable, dy, ids, toInt(ids.size()), V, C, wide(C, dtable, dy));
    }

    void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        fp32(y, bias, plus);
        int O = toInt(w.rows());
        boolean onto = bias != null || plus != null, there = bias == null && plus != null && plus.address == y.address;
        if (onto && !there) on.run("linear", "linear", rows(y.rows(), O, BLOCK), y, bias, plus, O, wide(O, y, bias, plus));
        products.times(Form.NT, new Grad(y, onto), x, w);
    }

    void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        fp32(dx, dw, dbias);
        if (dx.wanted()) products.times(Form.NN, dx, dy, w);
        if (dw.wanted()) products.times(Form.TN, dw, dy, x);
        if (dbias.wanted()) reductions.columns(dbias, dy);
    }

    void rmsnorm(Tensor y, Tensor rstd, Tensor x, Tensor gain, float eps) {
        fp32(rstd, x, gain);
        int C = toInt(gain.size());
        on.run("rmsnorm", "rmsnorm", rows(x.size() / C, C, NORM_BLOCK), y, half(y), rstd, x, gain, eps, C, wide(C, y, x, gain));
    }

    void rmsnormBack(Grad dx, Grad dgain, Tensor dy, Tensor x, Tensor gain, Tensor rstd) {
        fp32(dx, dgain, dy, x, gain, rstd);
        int C = toInt(gain.size());
        // The gain first: dx may lie where dy does.
        if (dgain.wanted()) reductions.gain(dgain, dy, x, rstd, C);
        if (dx.wanted()) {
            on.run("rmsnorm", "rmsnormBack", rows(x.size() / C, C, NORM_BLOCK), dx, dy, x, gain, rstd, C, wide(C, dx, dy, x, gain));
        }
    }

    void rmsScale(Tensor y, Tensor u, Tensor x, Tensor plus, float eps, int power) {
        fp32(y, u, x, plus);
        int U = toInt(u.cols()), C = toInt(x.cols());
        on.run("rmsScale", "rmsScale", rows(u.rows(), Math.max(U, C), NORM_BLOCK), y, u, x, plus, eps, power, U, C, wide(U, y, u, plus), wide(C, x));
    }

    void rmsScaleBack(Grad du, Grad dx, Tensor dy, Tensor u, Tensor x, float eps, int power) {
        fp32(du, dx, dy, u, x);
        int U = toInt(u.cols()), C = toInt(x.cols());
        on.run("rmsScale", "rmsScaleBack", rows(u.rows(), Math.max(U, C), NORM_BLOCK), du, dx, dy, u, x, eps, power, U, C, wide(U, du, dy, u), wide(C, dx, x));
    }

    void rope(Tensor y, Tensor x, Tensor table, Tensor positions) {
        turn(new Grad(y, false), x, table, positions, 1);
    }

    void ropeBack(Grad dx, Tensor dy, Tensor table, Tensor positions) {
        if (dx.wanted()) turn(dx, dy, table, positions, -1);
    }

    private void turn(Grad y, Tensor x, Tensor table, Tensor positions, float sign) {
        fp32(x, table);
        int half = toInt(table.cols()), heads = toInt(x.cols() / (2 * half));
        on.run("rope", "rope", rows(x.rows(), x.cols() / 2, BLOCK), y, x, table, positions, sign, heads, half, toInt(table.dim(1)),
                wide(half, y, x, table));
    }

    void cacheWrite(Tensor cache, Tensor x, Tensor positions) {
        fp32(cache, x);
        int C = toInt(x.cols());
        on.run("cacheWrite", "cacheWrite", rows(x.rows(), C, BLOCK), cache, x, positions, toInt(cache.dim(1)), C, wide(C, cache, x));
    }
}
