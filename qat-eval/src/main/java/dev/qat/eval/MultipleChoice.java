package dev.qat.eval;

import dev.qat.data.CausalLm;
import dev.qat.data.Windows;
import dev.qat.eval.Task.Choice;
import dev.qat.eval.Task.Item;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.function.Function;
import java.util.function.LongConsumer;

/**
 * Scores the choices of a task's items as lm-evaluation-harness 0.4 does (Gao et al.): context + continuation is encoded as one
 * string after BOS, and the tokens beyond those of BOS + encode(context) are scored; what is longer than the model's context
 * loses its beginning.
 */
public final class MultipleChoice {
    /**
     * @param sums   Σ log p of each choice's continuation, item by item
     * @param right  whether the choice with the largest sum is the label (LAMBADA: whether greedy decoding says the word)
     * @param normed the same for sum / characters of the choice
     */
    public record Score(Task task, List<double[]> sums, boolean[] right, boolean[] normed) {
        public int items() {
            return sums.size();
        }

        public double acc() {
            return share(right);
        }

        public double accNorm() {
            return share(normed);
        }

        public double accStderr() {
            return Statistics.error(acc(), items());
        }

        public double accNormStderr() {
            return Statistics.error(accNorm(), items());
        }

        /** exp of the mean −Σ log p of the first choice: what LAMBADA reports of its target words. */
        public double targetPerplexity() {
            return Math.exp(-sums.stream().mapToDouble(s -> s[0]).average().orElse(Double.NaN));
        }

        private static double share(boolean[] hits) {
            int n = 0;
            for (boolean hit : hits) if (hit) n++;
            return (double) n / hits.length;
        }
    }

    /** A token sequence whose last {@code scored} tokens are asked for, and whose answer goes to (item, choice). */
    private record Request(int item, int choice, int[] ids, int scored) {
        int firstTarget() {
            return ids.length - scored;
        }
    }

    /** Batches are as long as their longest request, rounded up to this: few shapes for a model to plan. */
    private static final int STEP = 16;
    /** What a log-probability may be off by without deciding the wrong way. */
    private static final double ROUNDING = 1e-3;

    private final CausalLm model;
    private final Function<String, int[]> encode;
    private final int batch;

    /** @param encode a text's ids, BOS before them where the tokenizer adds one */
    public MultipleChoice(CausalLm model, Function<String, int[]> encode, int batch) {
        this.model = model;
        this.encode = encode;
        this.batch = batch;
    }

    /** @param done is told how many choices stand */
    public Score judge(Task task, List<Item> items, LongConsumer done) {
        List<Request> requests = requests(items);
        List<double[]> sums = items.stream().map(i -> new double[i.choices().size()]).toList();
        boolean[] greedy = new boolean[items.size()], right = new boolean[items.size()], normed = new boolean[items.size()];
        int B = Math.min(batch, requests.size());
        for (int from = 0; from < requests.size(); from += B) {
            List<Request> some = requests.subList(from, Math.min(from + B, requests.size()));
            List<Request> undecided = score(some, B, sums, greedy);
            if (task == Task.LAMBADA && !undecided.isEmpty()) decode(undecided, greedy);
            done.accept(from + some.size());
        }
        for (int i = 0; i < right.length; i++) {
            Item item = items.get(i);
            double[] perCharacter = new double[sums.get(i).length];
            for (int c = 0; c < perCharacter.length; c++) perCharacter[c] = sums.get(i)[c] / Math.max(1, item.choices().get(c).characters());
            right[i] = task == Task.LAMBADA ? greedy[i] : largest(sums.get(i)) == item.label();
            normed[i] = task == Task.LAMBADA ? greedy[i] : largest(perCharacter) == item.label();
        }
        return new Score(task, sums, right, normed);
    }

    /** Longest first, so that the first batch is the one that needs the most memory. */
    private List<Request> requests(List<Item> items) {
        List<Request> all = new ArrayList<>();
        for (int i = 0; i < items.size(); i++) {
            List<Choice> choices = items.get(i).choices();
            for (int c = 0; c < choices.size(); c++) all.add(request(items.get(i), i, c));
        }
        all.sort(Comparator.comparingInt((Request r) -> -r.ids.length));
        return all;
    }

    private Request request(Item item, int i, int c) {
        Choice choice = item.choices().get(c);
        int[] both = encode.apply(choice.context() + choice.continuation());
        int given = encode.apply(choice.context()).length, scored = Math.min(both.length - given, model.context());
        if (scored <= 0 || both.length < 2) {
            throw Fail.data("%s: choice %d adds no token to its context, so there is nothing to score; correct the item", item.origin(), c);
        }
        int start = Math.max(0, both.length - model.context() - 1);
        // without BOS and without context nothing predicts the first token
        return new Request(i, c, Arrays.copyOfRange(both, start, both.length), Math.min(scored, both.length - start - 1));
    }

    /**
     * Fills the requests' sums, and whether each scored token is the model's first choice where its probability alone tells: more
     * than ½ is, less than 1/V is not. Returns the requests for which it does not.
     */
    private List<Request> score(List<Request> some, int B, List<double[]> sums, boolean[] greedy) {
        int T = Math.min(model.context(), Math.ceilDiv(some.getFirst().ids.length - 1, STEP) * STEP);
        int[] in = new int[B * T], out = new int[B * T];
        float[] nll = new float[B * T];
        Arrays.fill(out, Windows.MASK);
        for (int b = 0; b < some.size(); b++) {
            Request r = some.get(b);
            System.arraycopy(r.ids, 0, in, b * T, r.ids.length - 1);
            for (int t = r.firstTarget(); t < r.ids.length; t++) out[b * T + t - 1] = r.ids[t];
        }
        model.score(B, T, in, out, nll);
        List<Request> undecided = new ArrayList<>();
        for (int b = 0; b < some.size(); b++) {
            Request r = some.get(b);
            double sum = 0, largest = 0;
            for (int t = r.firstTarget(); t < r.ids.length; t++) {
                sum -= nll[b * T + t - 1];
                largest = Math.max(largest, nll[b * T + t - 1]);
            }
            if (!Double.isFinite(sum)) {
                throw Fail.numeric("item %d, choice %d: the log-probability is %s. The model's weights hold NaN or too large numbers.", r.item, r.choice, sum);
            }
            sums.get(r.item)[r.choice] = sum;
            greedy[r.item] = largest < Math.log(2) - ROUNDING;
            if (!greedy[r.item] && largest < Math.log(model.vocabulary()) + ROUNDING) undecided.add(r);
        }
        return undecided;
    }

    /** Whether each scored token is the model's first choice after the tokens before it. */
    private void decode(List<Request> some, boolean[] greedy) {
        int B = some.size(), T = some.getFirst().ids.length - 1;
        int[] ids = new int[B], sequence = new int[B], next = new int[B];
        for (Request r : some) greedy[r.item] = true;
        try (CausalLm.Decoder decoder = model.decoder(B, T, Sampling.GREEDY)) {
            for (int t = 0; t < T; t++) {
                for (int b = 0; b < B; b++) ids[b] = t < some.get(b).ids.length ? some.get(b).ids[t] : 0;
                decoder.step(ids, t, sequence, next);
                for (int b = 0; b < B; b++) {
                    Request r = some.get(b);
                    if (t + 1 >= r.firstTarget() && t + 1 < r.ids.length && next[b] != r.ids[t + 1]) greedy[r.item] = false;
                }
            }
        }
    }

    /** The first of the largest. */
    private static int largest(double[] x) {
        int best = 0;
        for (int i = 1; i < x.length; i++) if (x[i] > x[best]) best = i;
        return best;
    }
}
