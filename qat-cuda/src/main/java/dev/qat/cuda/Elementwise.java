package dev.qat.cuda;

import static dev.qat.cuda.Launcher.flat;
import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.half;
import static dev.qat.cuda.Launcher.wideFlat;

import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;

/** Ops whose elements know nothing of one another: one launch each, but for a copy without rounding, which is none. */
final class Elementwise {
    private final Launcher on;

    Elementwise(Launcher on) {
        this.on = on;
    }

    void copy(Tensor y, Tensor x) {
        if (y.type == x.type) on.device.copy(y.address, x.address, x.bytes());
        else on.run("copy", "copy", flat(y.size()), y, half(y), x, half(x), y.size(), wideFlat(y, x));
    }

    void fill(Tensor y, float v) {
        on.run("fill", "fill", flat(y.size()), y, half(y), v, y.size(), wideFlat(y));
    }

    void add(Tensor y, Tensor a, Tensor b) {
        fp32(y, a, b);
        on.run("add", "add", flat(y.size()), y, a, b, y.size(), wideFlat(y, a, b));
    }

    void scale(Tensor y, Tensor x, float s) {
        fp32(y, x);
        on.run("scale", "scale", flat(y.size()), y, x, s, y.size(), wideFlat(y, x));
    }

    void accumulate(Grad dx, Tensor dy, float s) {
        if (!dx.wanted()) return;
        fp32(dx, dy);
        on.run("accumulate", "accumulate", flat(dy.size()), dx, dy, s, dy.size(), wideFlat(dx, dy));
    }

    void swiglu(Tensor y, Tensor gate, Tensor up) {
        fp32(gate, up);
        on.run("swiglu", "swiglu", flat(y.size()), y, half(y), gate, up, y.size(), wideFlat(y, gate, up));
    }

    void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up) {
        if (!dgate.wanted() && !dup.wanted()) return;
        fp32(dy, gate, up);
        on.run("swiglu", "swigluBack", flat(dy.size()), dgate, dup, dy, gate, up, dy.size(), wideFlat(dgate, dup, dy, gate, up));
    }

    void adamw(Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares) {
        fp32(p, g, m, v, hyper, squares);
        on.run("adamw", "adamw", flat(p.size()), p, g, m, v, hyper, squares, p.size(), wideFlat(p, g, m, v));
    }

    void uniform(Tensor y, Tensor key) {
        fp32(y);
        on.run("uniform", "uniform", flat(y.size()), y, key, y.size(), wideFlat(y));
    }
}
