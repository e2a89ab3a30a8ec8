package dev.qat.data;

import dev.qat.tensor.Fail;
import java.util.Arrays;
import java.util.List;

/**
 * Training and evaluation windows of fixed length cut from token ids.
 *
 * <p>Window i reads {@code inputs[j] = ids[s+j]} and predicts {@code targets[j] = ids[s+j+1]} with s = starts[i] and
 * 0 ≤ j &lt; length; a target that does not exist is {@link #MASK}, which the loss leaves out.
 *
 * @param ids    all tokens; {@link #MASK} marks the end of a sequence
 * @param starts where each window begins
 * @param length tokens in a window
 */
public record Windows(int[] ids, int[] starts, int length) {
    public static final int MASK = -1;
    private static final long GOLDEN = 0x9E3779B97F4A7C15L; // 2^64 divided by the golden ratio

    /** One stream cut in order: floor(n/L) windows; the last target of the last window is masked where the stream ends. */
    public static Windows train(int[] ids, int length) {
        return strided(ids, ids.length / positive(length), length);
    }

    /** As {@link #train(int[], int)}, of the sequences joined in order into one stream. */
    public static Windows train(List<int[]> sequences, int length) {
        return train(sequences.stream().flatMapToInt(Arrays::stream).toArray(), length);
    }

    /**
     * Windows that never look across a sequence's end: each sequence is cut by itself, and its last window is filled up with
     * token 0, all targets there masked. Under a causal model the filling cannot reach the real tokens.
     */
    public static Windows separate(List<int[]> sequences, int length) {
        positive(length);
        // n tokens have n-1 targets, so ceil((n-1)/L) windows; one more place keeps the last target inside the sequence.
        int windows = 0, total = 0;
        for (int[] s : sequences) {
            int n = pieces(s, length);
            windows = Math.addExact(windows, n);
            total = Math.addExact(total, Math.addExact(Math.multiplyExact(n, length), 1));
        }
        int[] ids = new int[total], starts = new int[windows];
        Arrays.fill(ids, MASK);
        int at = 0, w = 0;
        for (int[] s : sequences) {
            int n = pieces(s, length);
            if (n > 0) System.arraycopy(checked(s), 0, ids, at, s.length);
            for (int i = 0; i < n; i++) starts[w++] = at + i * length;
            at += n * length + 1;
        }
        return filled(new Windows(ids, starts, length), "every sequence has fewer than 2 tokens");
    }

    /** The windows of several sets of one length, one set after the other; no window looks into its neighbour's set. */
    public static Windows join(List<Windows> parts) {
        if (parts.size() == 1) return parts.getFirst();
        int length = parts.getFirst().length, tokens = 0, count = 0;
        for (Windows w : parts) {
            Fail.unless(w.length == length, "windows of %d and of %d tokens cannot be joined", length, w.length);
            tokens = Math.addExact(tokens, w.ids.length + 1);
            count += w.count();
        }
        int[] ids = new int[tokens], starts = new int[count];
        int at = 0, n = 0;
        for (Windows w : parts) {
            System.arraycopy(w.ids, 0, ids, at, w.ids.length);
            for (int start : w.starts) starts[n++] = at + start;
            at += w.ids.length;
            ids[at++] = MASK; // what would be the next token of a set's last window
        }
        return new Windows(ids, starts, length);
    }

    /** The perplexity protocol: inputs ids[i:i+L], targets ids[i+1:i+L+1], i = 0, L, 2L..; a last partial window is dropped. */
    public static Windows evaluation(int[] ids, int length) {
        return strided(ids, (ids.length - 1) / positive(length), length);
    }

    public int count() {
        return starts.length;
    }

    /** The last windows, so many. */
    public Windows last(int count) {
        return new Windows(ids, Arrays.copyOfRange(starts, starts.length - count, starts.length), length);
    }

    /** The first windows, at most so many; 0 for all. */
    public Windows first(int most) {
        return most == 0 || starts.length <= most ? this : new Windows(ids, Arrays.copyOf(starts, most), length);
    }

    /** inputs (L) */
    public int[] inputs(int window) {
        int[] row = new int[length];
        fillInputs(row, 0, window);
        return row;
    }

    /** targets (L) */
    public int[] targets(int window) {
        int[] row = new int[length];
        fillTargets(row, 0, window);
        return row;
    }

    /** Row b of both outputs becomes window batch[b].   batch (B), inputs (B, L), targets (B, L) */
    public void fill(int[] batch, int[] inputs, int[] targets) {
        int cells = batch.length * length;
        Fail.unless(inputs.length == cells && targets.length == cells, "a batch of %d windows of %d needs %d cells, got %d and %d",
                batch.length, length, cells, inputs.length, targets.length);
        for (int b = 0; b < batch.length; b++) {
            fillInputs(inputs, b * length, batch[b]);
            fillTargets(targets, b * length, batch[b]);
        }
    }

    /**
     * A shuffle of 0..n−1 that depends on (seed, epoch) alone: Fisher–Yates, for i = n−1 down to 1 swap i with
     * floor(r(i)·(i+1) / 2^64), r(i) = mix(key + i·φ), key = mix(mix(seed) + epoch·φ), where mix is SplitMix64's finalizer
     * (Steele, Lea, Flood 2014) and φ its step. No state runs along, so a resumed run draws the same order.
     */
    public static int[] order(long seed, int epoch, int n) {
        long key = mix(mix(seed) + epoch * GOLDEN);
        int[] order = new int[n];
        for (int i = 0; i < n; i++) order[i] = i;
        for (int i = n - 1; i > 0; i--) {
            int j = (int) Math.unsignedMultiplyHigh(mix(key + i * GOLDEN), i + 1L);
            int held = order[i];
            order[i] = order[j];
            order[j] = held;
        }
        return order;
    }

    private static long mix(long z) {
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    private static Windows strided(int[] ids, int count, int length) {
        int[] starts = new int[Math.max(0, count)];
        for (int i = 0; i < starts.length; i++) starts[i] = i * length;
        return filled(new Windows(checked(ids), starts, length), ids.length + " tokens");
    }

    private static Windows filled(Windows w, String have) {
        if (w.count() == 0) {
            throw Fail.data("%s, too few for one window of %d tokens; give more text or choose a shorter window", have, w.length);
        }
        return w;
    }

    private static int positive(int length) {
        Fail.unless(length > 0, "windows of %d tokens, expected 1 or more", length);
        return length;
    }

    private static int pieces(int[] sequence, int length) {
        return Math.ceilDiv(Math.max(0, sequence.length - 1), length);
    }

    private static int[] checked(int[] ids) {
        for (int id : ids) Fail.unless(id >= 0, "token id %d in the text, expected 0 or more", id);
        return ids;
    }

    private void fillInputs(int[] row, int at, int window) {
        for (int j = 0; j < length; j++) row[at + j] = Math.max(0, ids[starts[window] + j]);
    }

    private void fillTargets(int[] row, int at, int window) {
        for (int j = 0; j < length; j++) {
            int next = starts[window] + j + 1;
            row[at + j] = next < ids.length ? ids[next] : MASK;
        }
    }
}
