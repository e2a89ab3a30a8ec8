package dev.qat.cpu;

import dev.qat.ops.Sampling;
import java.util.Arrays;

/** Draws one token from a row of logits, as {@link Sampling} says. */
final class Choice {
    private Choice() {}

    /** −1 if a logit is NaN. */
    static int draw(long logits, int v, Sampling how, float uniform) {
        for (int i = 0; i < v; i++) if (Float.isNaN(Lanes.get(logits + 4L * i))) return -1;
        if (how.temperature() == 0) return Losses.argmax(logits, v);
        if (how.topK() == 0 && how.topP() == 1) return all(logits, v, how.temperature(), uniform);
        int keep = how.topK() == 0 ? v : Math.min(how.topK(), v);
        long[] order = ranked(logits, v, keep);
        double[] weight = new double[keep];
        double max = Lanes.get(logits + 4L * (int) order[0]), total = 0;
        for (int r = 0; r < keep; r++) {
            weight[r] = Math.exp((Lanes.get(logits + 4L * (int) order[r]) - max) / how.temperature());
            total += weight[r];
        }
        keep = nucleus(weight, keep, how.topP() * total);
        return pick(order, weight, keep, uniform);
    }

    /** Every token is kept: no ranking. */
    private static int all(long logits, int v, float temperature, float uniform) {
        double max = Attention.maxOf(logits, v), total = 0;
        double[] weight = new double[v];
        for (int i = 0; i < v; i++) total += weight[i] = Math.exp((Lanes.get(logits + 4L * i) - max) / temperature);
        double left = uniform * total;
        for (int i = 0; i < v; i++) {
            left -= weight[i];
            if (left < 0) return i;
        }
        return v - 1;
    }

    /** The first {@code keep} token ids from the largest logit to the smallest, the lower id first among equals. */
    private static long[] ranked(long logits, int v, int keep) {
        long[] order = new long[keep];
        for (int i = 0; i < keep; i++) order[i] = place(logits, i);
        if (keep < v) {
            for (int i = keep / 2 - 1; i >= 0; i--) sink(order, i);
            for (int i = keep; i < v; i++) {
                long place = place(logits, i);
                if (place >= order[0]) continue; // the heap's top is the last of those kept so far
                order[0] = place;
                sink(order, 0);
            }
        }
        Arrays.sort(order);
        return order;
    }

    /** A number that is smaller the earlier a token comes in the order, with the token in its low half. */
    private static long place(long logits, int i) {
        int bits = Float.floatToIntBits(Lanes.get(logits + 4L * i));
        int rising = bits ^ (bits >> 31 & 0x7FFFFFFF);
        return (long) ~rising << 32 | i;
    }

    /** Lets a value sink in a heap whose top is the largest. */
    private static void sink(long[] heap, int at) {
        long value = heap[at];
        for (int child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
            if (child + 1 < heap.length && heap[child + 1] > heap[child]) child++;
            if (heap[child] <= value) break;
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = value;
    }

    /** How many of the heaviest reach {@code enough} together. */
    private static int nucleus(double[] weight, int keep, double enough) {
        double sum = 0;
        for (int r = 0; r < keep; r++) {
            sum += weight[r];
            if (sum >= enough) return r + 1;
        }
        return keep;
    }

    /** Inverse distribution function over the kept tokens in order of their ids. */
    private static int pick(long[] order, double[] weight, int keep, float uniform) {
        long[] ids = new long[keep];
        double total = 0;
        for (int r = 0; r < keep; r++) {
            ids[r] = (order[r] & 0xFFFFFFFFL) << 32 | r;
            total += weight[r];
        }
        Arrays.sort(ids);
        double left = uniform * total;
        for (long id : ids) {
            left -= weight[(int) id];
            if (left < 0) return (int) (id >>> 32);
        }
        return (int) (ids[keep - 1] >>> 32);
    }
}
