package dev.qat.cpu;

import static dev.qat.cpu.Cells.get;
import static dev.qat.cpu.Cells.put;
import static dev.qat.tensor.HostMemory.getInt;
import static dev.qat.tensor.HostMemory.putInt;

import dev.qat.ops.Philox;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Tensor;
import java.util.Arrays;
import java.util.Comparator;

/** Random numbers and the tokens drawn with them. */
final class ReferenceSampling {
    private ReferenceSampling() {}

    static void uniform(Tensor y, Tensor key) {
        for (long i = 0; i < y.size(); i++) {
            put(y, i, Philox.unit(Philox.word(getInt(key, 0), getInt(key, 1), i, getInt(key, 2), getInt(key, 3))));
        }
    }

    static void sample(Tensor ids, Tensor logits, Tensor keys, Sampling sampling) {
        for (long b = 0; b < ids.size(); b++) {
            double u = Philox.uniform(sampling.seed(), 0, getInt(keys, 2 * b), getInt(keys, 2 * b + 1));
            putInt(ids, b, draw(logits, b * logits.cols(), sampling, u));
        }
    }

    /**
     * One token of one row, −1 if a logit is NaN.
     *
     * <pre>
     * order     largest logit first, the lower index first of equal ones; temperature 0 takes the first and is done
     * weight    e_i = exp((l_i − l_first) / temperature), in doubles
     * top-k     the first k of the order (0: all)
     * top-p     of those the shortest beginning whose weights, added in that order, reach topP · their sum (1: all)
     * draw      the first kept index i, counted upwards, with Σ_{kept j ≤ i} e_j > u · Σ_kept e_j
     * </pre>
     */
    private static int draw(Tensor logits, long from, Sampling sampling, double u) {
        int V = Math.toIntExact(logits.cols());
        Integer[] order = new Integer[V];
        for (int i = 0; i < V; i++) {
            order[i] = i;
            if (Float.isNaN(get(logits, from + i))) return -1;
        }
        Arrays.sort(order, Comparator.comparing((Integer i) -> -get(logits, from + i) + 0f).thenComparing(i -> i));
        if (sampling.temperature() == 0) return order[0];

        double[] e = new double[V];
        for (int i = 0; i < V; i++) e[i] = Math.exp(((double) get(logits, from + i) - get(logits, from + order[0])) / sampling.temperature());
        int kept = sampling.topK() == 0 ? V : Math.min(V, sampling.topK());
        if (sampling.topP() < 1) kept = shortest(order, e, kept, sampling.topP());
        int[] chosen = Arrays.stream(order, 0, kept).mapToInt(i -> i).sorted().toArray();

        double sum = 0, running = 0;
        for (int i : chosen) sum += e[i];
        for (int i : chosen) {
            running += e[i];
            if (running > u * sum) return i;
        }
        return chosen[kept - 1];
    }

    /** How many of the first {@code kept} in order it takes to reach the share {@code topP} of their weight. */
    private static int shortest(Integer[] order, double[] e, int kept, double topP) {
        double sum = 0, running = 0;
        for (int k = 0; k < kept; k++) sum += e[order[k]];
        for (int k = 0; k < kept; k++) {
            running += e[order[k]];
            if (running >= topP * sum) return k + 1;
        }
        return kept;
    }
}
