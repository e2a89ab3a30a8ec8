package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.Channels;
import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;

/** What changes a model without changing what it computes: scales per channel, Hadamard rotations. */
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
    static void hadamard(Grad y, Tensor x, int size) {
        for (long from = 0; from < x.size(); from += size) {
            double[] sums = new double[size];
            for (int i = 0; i < size; i++) {
                for (int j = 0; j < size; j++) sums[j] += (Integer.bitCount(i & j) % 2 == 0 ? 1 : -1) * (double) get(x, from + i);
            }
            for (int j = 0; j < size; j++) give(y, from + j, sums[j] / Math.sqrt(size));
        }
    }

    static void hadamard(Tensor y, Tensor x, int size) {
        hadamard(new Grad(y, false), x, size);
    }

    static void hadamardBack(Grad dx, Tensor dy, int size) {
        if (dx.wanted()) hadamard(dx, dy, size);
    }
}
