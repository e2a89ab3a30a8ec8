package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.Channels;
import dev.qat.ops.Grad;
import dev.qat.ops.Mix;
import dev.qat.tensor.Tensor;

/** What changes a model without changing what it computes: scales per channel, Hadamard rotations, matrices of heads. */
final class ReferenceTransforms {
    private ReferenceTransforms() {}

    static void channelScale(Tensor y, Tensor x, Tensor tau, Channels how) {
        long C = x.cols();
        for (long i = 0; i < x.size(); i++) put(y, i, get(x, i) * Math.exp((double) how.power() * get(tau, how.of((int) (i % C)))));
    }

    static void channelScaleBack(Grad dx, Grad dtau, Tensor dy, Tensor x, Tensor tau, Channels how) {
        int C = Math.toIntExact(x.cols());
        double[] sums = new double[Math.toIntExact(tau.size())];
        for (long i = 0; i < x.size(); i++) {
            int m = how.of((int) (i % C));
            double d = get(dy, i) * Math.exp((double) how.power() * get(tau, m));
            sums[m] += how.power() * d * get(x, i);
            give(dx, i, d);
        }
        for (int m = 0; m < sums.length; m++) give(dtau, m, sums[m]);
    }

    /** H_ij = (−1)^popcount(i & j) / √size */
    static void hadamard(Grad y, Tensor x, int size, int apart) {
        for (long from = 0; from < x.size(); from += (long) size * apart) {
            for (int k = 0; k < apart; k++) {
                for (int j = 0; j < size; j++) {
                    double sum = 0;
                    for (int i = 0; i < size; i++) sum += (Integer.bitCount(i & j) % 2 == 0 ? 1 : -1) * (double) get(x, from + (long) i * apart + k);
                    give(y, from + (long) j * apart + k, sum / Math.sqrt(size));
                }
            }
        }
    }

    static void hadamard(Tensor y, Tensor x, int size, int apart) {
        hadamard(new Grad(y, false), x, size, apart);
    }

    static void hadamardBack(Grad dx, Tensor dy, int size, int apart) {
        if (dx.wanted()) hadamard(dx, dy, size, apart);
    }

    static void mixHeads(Grad y, Tensor x, Tensor m, Mix how) {
        int D = Math.toIntExact(m.cols()), H = how.heads(m), Q = how.inner(), P = how.outer(x, m);
        for (long slab = 0; slab < (long) P * H; slab++) {
            long k = slab % H / how.repeat() * D * D, at = slab * D * Q;
            for (int j = 0; j < D; j++) {
                for (int q = 0; q < Q; q++) {
                    double sum = 0;
                    for (int i = 0; i < D; i++) sum += (double) get(m, k + (how.transposed() ? i * D + j : j * D + i)) * get(x, at + (long) i * Q + q);
                    give(y, at + (long) j * Q + q, sum);
                }
            }
        }
    }

    static void mixHeadsBack(Grad dx, Grad dm, Tensor dy, Tensor x, Tensor m, Mix how) {
        int D = Math.toIntExact(m.cols()), H = how.heads(m), Q = how.inner(), P = how.outer(x, m);
        double[] sums = new double[Math.toIntExact(m.size())];
        Tensor rows = how.transposed() ? x : dy, columns = how.transposed() ? dy : x;
        for (long slab = 0; slab < (long) P * H; slab++) {
            int k = (int) (slab % H) / how.repeat() * D * D;
            for (int j = 0; j < D; j++) {
                for (int i = 0; i < D; i++) {
                    for (int q = 0; q < Q; q++) sums[k + j * D + i] += (double) get(rows, (slab * D + j) * Q + q) * get(columns, (slab * D + i) * Q + q);
                }
            }
        }
        if (dx.wanted()) mixHeads(dx, dy, m, how.back());
        for (int i = 0; i < sums.length; i++) give(dm, i, sums[i]);
    }
}
