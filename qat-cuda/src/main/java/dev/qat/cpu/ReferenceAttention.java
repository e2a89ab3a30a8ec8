package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.give;
import static dev.qat.cpu.Cells.put;

import dev.qat.ops.Grad;
import dev.qat.ops.Heads;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;

/** Causal grouped-query attention as its definition says it: query head h reads key/value head h / (H/K), row t the rows up to t. */
final class ReferenceAttention {
    private ReferenceAttention() {}

    static void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads a) {
        for (int b = 0; b < a.B(); b++) {
            for (int h = 0; h < a.H(); h++) {
                for (int t = 0; t < a.T(); t++) {
                    long query = queryAt(a, b, t, h), keys = keyAt(a, b, 0, h);
                    double logSum = row(o, q, query, k, v, keys, t + 1, a);
                    put(lse, lseAt(a, b, h, t), logSum);
                }
            }
        }
    }

    static void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads a) {
        for (int b = 0; b < a.B(); b++) {
            int length = HostMemory.getInt(lengths, b);
            Fail.unless(1 <= length && length <= a.T(), "sequence %d has %d keys to read, expected 1 to %d", b, length, a.T());
            for (int h = 0; h < a.H(); h++) row(o, q, ((long) b * a.H() + h) * a.D(), k, v, keyAt(a, b, 0, h), length, a);
        }
    }

    /** One query over {@code count} keys: o = softmax(q kᵀ / √D) v; returns log Σ exp of the scores. */
    private static double row(Tensor o, Tensor q, long query, Tensor k, Tensor v, long keys, int count, Heads a) {
        double[] score = new double[count];
        double most = Double.NEGATIVE_INFINITY, sum = 0;
        for (int s = 0; s < count; s++) {
            score[s] = score(q, query, k, keys + s * stride(a), a.D());
            most = Math.max(most, score[s]);
        }
        for (int s = 0; s < count; s++) sum += Math.exp(score[s] - most);
        double logSum = most + Math.log(sum);
        for (int d = 0; d < a.D(); d++) {
            double mix = 0;
            for (int s = 0; s < count; s++) mix += Math.exp(score[s] - logSum) * get(v, keys + s * stride(a) + d);
            put(o, query + d, mix);
        }
        return logSum;
    }

    /**
     * With p = exp(q·k/√D − lse) and δ = Σ_d dy·o:  dv = Σ p·dy;  ds = p · (dy·v − δ) / √D;  dq = Σ ds·k;  dk = Σ ds·q,
     * where dk and dv sum over the queries of all heads that share them, head by head and in order of t.
     */
    static void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads a) {
        int D = a.D();
        for (int b = 0; b < a.B(); b++) {
            for (int shared = 0; shared < a.K(); shared++) {
                double[] keySlope = new double[a.T() * D], valueSlope = new double[a.T() * D];
                for (int h = shared * a.H() / a.K(); h < (shared + 1) * a.H() / a.K(); h++) {
                    for (int t = 0; t < a.T(); t++) {
                        long query = queryAt(a, b, t, h), at = lseAt(a, b, h, t);
                        double total = dot(dy, query, o, query, D);
                        put(delta, at, total);
                        double[] querySlope = new double[D];
                        for (int s = 0; s <= t; s++) {
                            long key = keyAt(a, b, s, h);
                            double p = Math.exp(score(q, query, k, key, D) - get(lse, at));
                            double ds = p * (dot(dy, query, v, key, D) - total) / Math.sqrt(D);
                            for (int d = 0; d < D; d++) {
                                querySlope[d] += ds * get(k, key + d);
                                keySlope[s * D + d] += ds * get(q, query + d);
                                valueSlope[s * D + d] += p * get(dy, query + d);
                            }
                        }
                        for (int d = 0; d < D; d++) give(dq, query + d, querySlope[d]);
                    }
                }
                for (int i = 0; i < a.T() * D; i++) {
                    long at = ((long) b * a.T() + i / D) * stride(a) + (long) shared * D + i % D;
                    give(dk, at, keySlope[i]);
                    give(dv, at, valueSlope[i]);
                }
            }
        }
    }

    private static double score(Tensor q, long query, Tensor k, long key, int D) {
        return dot(q, query, k, key, D) / Math.sqrt(D);
    }

    private static double dot(Tensor x, long xAt, Tensor y, long yAt, int D) {
        double sum = 0;
        for (int d = 0; d < D; d++) sum += (double) get(x, xAt + d) * get(y, yAt + d);
        return sum;
    }

    /** Elements from one token's keys to the next one's. */
    private static long stride(Heads a) {
        return (long) a.K() * a.D();
    }

    private static long queryAt(Heads a, int b, int t, int h) {
        return (((long) b * a.T() + t) * a.H() + h) * a.D();
    }

    private static long keyAt(Heads a, int b, int t, int h) {
        return ((long) b * a.T() + t) * stride(a) + (long) (h / (a.H() / a.K())) * a.D();
    }

    private static long lseAt(Heads a, int b, int h, int t) {
        return ((long) b * a.H() + h) * a.T() + t;
    }
}
