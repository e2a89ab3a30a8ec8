package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;
import static dev.qat.tensor.HostMemory.getInt;

import dev.qat.ops.Grad;
import dev.qat.tensor.Tensor;

/** What a decoder's block is made of beside its attention: product, norm, rotation, gate; each with its gradient. */
final class ReferenceLayers {
    private ReferenceLayers() {}

    static void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus) {
        long N = x.rows(), I = x.cols(), O = w.rows();
        for (long n = 0; n < N; n++) {
            for (long o = 0; o < O; o++) {
                double sum = 0;
                for (long i = 0; i < I; i++) sum += (double) get(x, n * I + i) * get(w, o * I + i);
                if (bias != null) sum += get(bias, o);
                if (plus != null) sum += get(plus, n * O + o);
                put(y, n * O + o, sum);
            }
        }
    }

    static void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w) {
        long N = x.rows(), I = x.cols(), O = w.rows();
        for (long n = 0; dx.wanted() && n < N; n++) {
            for (long i = 0; i < I; i++) {
                double sum = 0;
                for (long o = 0; o < O; o++) sum += (double) get(dy, n * O + o) * get(w, o * I + i);
                give(dx, n * I + i, sum);
            }
        }
        for (long o = 0; dw.wanted() && o < O; o++) {
            for (long i = 0; i < I; i++) {
                double sum = 0;
                for (long n = 0; n < N; n++) sum += (double) get(dy, n * O + o) * get(x, n * I + i);
                give(dw, o * I + i, sum);
            }
        }
        for (long o = 0; dbias.wanted() && o < O; o++) {
            double sum = 0;
            for (long n = 0; n < N; n++) sum += get(dy, n * O + o);
            give(dbias, o, sum);
        }
    }

    static void rmsnorm(Tensor y, Tensor rstd, Tensor x, Tensor gain, float eps) {
        long C = gain.size(), M = x.size() / C;
        for (long m = 0; m < M; m++) {
            double squares = 0;
            for (long c = 0; c < C; c++) squares += (double) get(x, m * C + c) * get(x, m * C + c);
            double r = 1 / Math.sqrt(squares / C + eps);
            put(rstd, m, r);
            for (long c = 0; c < C; c++) put(y, m * C + c, get(x, m * C + c) * r * get(gain, c));
        }
    }

    static void rmsnormBack(Grad dx, Grad dgain, Tensor dy, Tensor x, Tensor gain, Tensor rstd) {
        long C = gain.size(), M = x.size() / C;
        double[] gainSum = new double[Math.toIntExact(C)];
        for (long m = 0; m < M; m++) {
            double r = get(rstd, m), dot = 0;
            for (long c = 0; c < C; c++) dot += (double) get(gain, c) * get(dy, m * C + c) * get(x, m * C + c);
            for (long c = 0; c < C; c++) {
                double g = get(dy, m * C + c), v = get(x, m * C + c);
                give(dx, m * C + c, r * (get(gain, c) * g - v * r * r * dot / C));
                gainSum[(int) c] += g * v * r;
            }
        }
        for (int c = 0; c < C; c++) give(dgain, c, gainSum[c]);
    }

    static void rmsScale(Tensor y, Tensor u, Tensor x, Tensor plus, float eps, int power) {
        long U = u.cols();
        for (long n = 0; n < u.rows(); n++) {
            double f = Math.pow(meanSquare(x, n) + eps, 0.5 * power);
            for (long i = n * U; i < (n + 1) * U; i++) put(y, i, get(u, i) * f + (plus == null ? 0 : get(plus, i)));
        }
    }

    static void rmsScaleBack(Grad du, Grad dx, Tensor dy, Tensor u, Tensor x, float eps, int power) {
        long U = u.cols(), C = x.cols();
        for (long n = 0; n < u.rows(); n++) {
            double square = meanSquare(x, n) + eps, f = Math.pow(square, 0.5 * power), dot = 0;
            for (long i = n * U; i < (n + 1) * U; i++) dot += (double) get(dy, i) * get(u, i);
            for (long i = n * U; i < (n + 1) * U; i++) give(du, i, get(dy, i) * f);
            for (long i = n * C; i < (n + 1) * C; i++) give(dx, i, get(x, i) * power * f / square / C * dot);
        }
    }

    private static double meanSquare(Tensor x, long n) {
        double squares = 0;
        for (long c = n * x.cols(); c < (n + 1) * x.cols(); c++) squares += (double) get(x, c) * get(x, c);
        return squares / x.cols();
    }

    /** Rotates every pair by +1 or −1 times its angle; y may be x. */
    static void turn(Grad y, Tensor x, Tensor table, Tensor positions, int sign) {
        long half = table.cols(), Tmax = table.dim(1), heads = x.cols() / (2 * half);
        for (long n = 0; n < x.rows(); n++) {
            long angle = getInt(positions, n) * half;
            for (long h = 0; h < heads; h++) {
                for (long i = 0; i < half; i++) {
                    long at = n * x.cols() + h * 2 * half + i;
                    double cos = get(table, angle + i), sin = sign * get(table, Tmax * half + angle + i);
                    double a = get(x, at), b = get(x, at + half);
                    give(y, at, a * cos - b * sin);
                    give(y, at + half, b * cos + a * sin);
                }
            }
        }
    }

    static void swiglu(Tensor y, Tensor gate, Tensor up) {
        for (long i = 0; i < y.size(); i++) {
            double g = get(gate, i);
            put(y, i, g / (1 + Math.exp(-g)) * get(up, i));
        }
    }

    static void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up) {
        for (long i = 0; i < dy.size(); i++) {
            double d = get(dy, i), g = get(gate, i), u = get(up, i), sigmoid = 1 / (1 + Math.exp(-g));
            give(dgate, i, d * u * sigmoid * (1 + g * (1 - sigmoid)));
            give(dup, i, d * g * sigmoid);
        }
    }
}
