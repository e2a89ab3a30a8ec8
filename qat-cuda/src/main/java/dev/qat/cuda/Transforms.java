package dev.qat.cuda;

import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.rows;
import static dev.qat.cuda.Launcher.toInt;
import static dev.qat.cuda.Launcher.wide;

import dev.qat.ops.Channels;
import dev.qat.ops.Grad;
import dev.qat.ops.Mix;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/** Scales per channel, Hadamard rotations, matrices of heads. */
final class Transforms {
    private static final int BLOCK = 256;
    /** Floats of a rotation that a block keeps in shared memory. */
    private static final int LARGEST = 8192;

    private final Launcher on;
    private final Reductions reductions;

    Transforms(Launcher on, Reductions reductions) {
        this.on = on;
        this.reductions = reductions;
    }

    void channelScale(Tensor y, Tensor x, Tensor tau, Channels how) {
        fp32(y, x, tau);
        scale(new Grad(y, false), x, tau, how);
    }

    void channelScaleBack(Grad dx, Grad dtau, Tensor dy, Tensor x, Tensor tau, Channels how) {
        fp32(dx, dtau, dy, x, tau);
        // The scale first: dx may lie where dy does.
        if (dtau.wanted()) {
            int cols = toInt(x.cols()), parts = reductions.products(dy, x);
            on.run("channelScale", "channelScaleBackTau", Blocks.cover(tau.size(), BLOCK, BLOCK), dtau, on.scratch, parts, cols, tau, toInt(tau.size()),
                    how.run(), how.repeat(), (float) how.power());
        }
        if (dx.wanted()) scale(dx, dy, tau, how);
    }

    private void scale(Grad y, Tensor x, Tensor tau, Channels how) {
        int C = toInt(x.cols());
        on.run("channelScale", "channelScale", rows(x.rows(), C, BLOCK), y, x, tau, C, how.run(), how.repeat(), (float) how.power(), wide(C, y, x));
    }

    void hadamard(Tensor y, Tensor x, int size, int apart) {
        rotate(new Grad(y, false), x, size, apart);
    }

    void hadamardBack(Grad dx, Tensor dy, int size, int apart) {
        if (dx.wanted()) rotate(dx, dy, size, apart);
    }

    void mixHeads(Grad y, Tensor x, Tensor m, Mix how) {
        fp32(y, x, m);
        int D = toInt(m.cols());
        on.run("mixHeads", "mixHeads", Blocks.cover(x.size(), BLOCK, BLOCK), y, x, m, x.size(), how.heads(m), D, how.inner(), how.repeat(), how.transposed());
    }

    void mixHeadsBack(Grad dx, Grad dm, Tensor dy, Tensor x, Tensor m, Mix how) {
        if (dx.wanted()) mixHeads(dx, dy, m, how.back());
        if (!dm.wanted()) return;
        fp32(dm, dy, x);
        int D = toInt(m.cols());
        Tensor left = how.transposed() ? x : dy, right = how.transposed() ? dy : x;
        on.run("mixHeads", "mixHeadsBack", Launcher.groups(m.size(), 32), dm, left, right, m.size(), how.outer(x, m), how.heads(m), D, how.inner(), how.repeat());
    }

    private void rotate(Grad y, Tensor x, int size, int apart) {
        fp32(y, x);
        int span = size * apart;
        Fail.unless(span <= LARGEST, "a Hadamard rotation over %d channels, the kernel takes at most %d", span, LARGEST);
        on.run("hadamard", "hadamard", rows(x.size() / span, span, BLOCK), y, x, (float) (1 / Math.sqrt(size)), span, apart, wide(span, y, x));
    }
}
