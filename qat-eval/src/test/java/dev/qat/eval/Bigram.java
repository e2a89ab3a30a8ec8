package dev.qat.eval;

import dev.qat.data.CausalLm;
import dev.qat.ops.Sampling;

/**
 * A language model whose every number can be worked out by hand: p(next | this) ∝ 1 + (31 · this + 17 · next) mod 23, over
 * the characters a..z and space after BOS 0.
 */
class Bigram implements CausalLm {
    static final int V = 28, BOS = 0;

    private final int context;
    int widest;

    Bigram(int context) {
        this.context = context;
    }

    static double logp(int at, int next) {
        double sum = 0;
        for (int v = 0; v < V; v++) sum += weight(at, v);
        return Math.log(weight(at, next) / sum);
    }

    /** The last of the likeliest, so that a space is a favourite too: after w. */
    static int favourite(int at) {
        int best = 0;
        for (int v = 1; v < V; v++) if (weight(at, v) >= weight(at, best)) best = v;
        return best;
    }

    private static double weight(int at, int next) {
        return 1 + (31 * at + 17 * next) % 23;
    }

    /** BOS, then 1..26 for a..z and 27 for anything else. */
    static int[] encode(String text) {
        int[] ids = new int[text.length() + 1];
        for (int i = 0; i < text.length(); i++) {
            char c = Character.toLowerCase(text.charAt(i));
            ids[i + 1] = c >= 'a' && c <= 'z' ? c - 'a' + 1 : 27;
        }
        return ids;
    }

    @Override
    public int vocabulary() {
        return V;
    }

    @Override
    public int context() {
        return context;
    }

    @Override
    public void score(int B, int T, int[] ids, int[] targets, float[] nll) {
        if (T > context) throw new AssertionError("asked for " + T + " tokens of a context of " + context);
        widest = Math.max(widest, T);
        for (int n = 0; n < B * T; n++) nll[n] = targets[n] < 0 ? 0 : (float) -logp(ids[n], targets[n]);
    }

    @Override
    public Decoder decoder(int B, int capacity, Sampling how) {
        return new Decoder() {
            private int steps;

            @Override
            public void step(int[] ids, int[] positions, int[] sequence, int[] next, int[] best) {
                if (++steps > capacity) throw new AssertionError("step " + steps + " of a decoder for " + capacity);
                for (int b = 0; b < B; b++) next[b] = favourite(ids[b]);
            }

            @Override
            public void close() {}
        };
    }

    @Override
    public void close() {}
}
