package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.ModelConfig;
import dev.qat.model.Site;
import dev.qat.ops.Channels;
import dev.qat.ops.Ops;
import dev.qat.tensor.Param;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Linears that read one input, and what produces it: their columns may be scaled by s and the producer by 1/s without a change
 * of what the model computes, for any s &gt; 0.
 *
 * <pre>
 * q, k, v ← the gain of norm1      gate, up ← the gain of norm2
 * o ← v, one scale per channel of a key/value head for its whole group of query heads      down ← up
 * </pre>
 * The last two hold because attention and the gated product are linear in v and up. Where o's or down's input is turned on its way
 * ({@link ModelConfig.Online}), the weight is turned back, scaled, and turned again.
 *
 * @param gain the producing norm's gain, or null  @param producer the producing linear, or null
 * @param upstream where the producer's output, or gain, passes  @param scales how many  @param columns which scale a column takes
 * @param turned columns of the readers that were turned together by a Hadamard matrix, 0 for none  @param apart how far from one another these lie
 */
record ScalePair(String name, List<Linear> readers, Param gain, Linear producer, Site upstream, int scales, Channels columns, int turned, int apart) {
    ScalePair(String name, List<Linear> readers, Param gain, Linear producer, Site upstream, int scales, Channels columns) {
        this(name, readers, gain, producer, upstream, scales, columns, 0, 1);
    }

    /** The pairs of a block; {@code linears} adds those whose producer is a linear. */
    static List<ScalePair> of(Block b, ModelConfig c, boolean linears) {
        List<ScalePair> all = new ArrayList<>();
        all.add(new ScalePair("qkv", List.of(b.q, b.k, b.v), b.norm1, null, b.gain1Site, c.C(), Channels.each(c.C(), 1)));
        if (linears) all.add(new ScalePair("o", List.of(b.o), null, b.v, b.valueSite, c.K() * c.D(), new Channels(c.D(), c.H() / c.K(), 1), c.online().across(), c.D()));
        all.add(new ScalePair("gate-up", List.of(b.gate, b.up), b.norm2, null, b.gain2Site, c.C(), Channels.each(c.C(), 1)));
        if (linears) all.add(new ScalePair("down", List.of(b.down), null, b.up, b.upSite, c.F(), Channels.each(c.F(), 1), c.online().down(), 1));
        return all;
    }

    /** s = e^tau on the readers' weights, e^−tau upstream. */
    void install(Param tau) {
        for (Linear l : readers) {
            if (turned > 0) l.weightSite.add((t, w) -> Ops.hadamard(t, w, turned, apart));
            l.weightSite.add((t, w) -> Ops.channelScale(t, w, tau.value(), columns));
            if (turned > 0) l.weightSite.add((t, w) -> Ops.hadamard(t, w, turned, apart));
        }
        upstream.add((t, x) -> Ops.channelScale(t, x, tau.value(), Channels.each(scales, -1)));
    }

    /** Writes s into the readers' columns and 1/s into the producer. */
    void merge(Merge to, double[] s) {
        double[] inverse = Arrays.stream(s).map(v -> 1 / v).toArray();
        for (Linear l : readers) {
            turn(to.of(l.weight));
            to.columns(l, s, columns);
            turn(to.of(l.weight));
        }
        if (gain != null) to.vector(gain, inverse);
        else to.rows(producer, inverse);
    }

    private void turn(double[] w) {
        if (turned > 0) Folds.turnBlocks(w, turned, apart);
    }

    /** The mean of what the columns of each scale hold. */
    double[] mean(double[] perColumn) {
        double[] mean = new double[scales];
        for (int j = 0; j < perColumn.length; j++) mean[columns.of(j)] += perColumn[j] / columns.repeat();
        return mean;
    }

    /** The largest |w| in the columns of each scale, over all readers. */
    double[] largest(Merge from) {
        double[] most = new double[scales];
        for (Linear l : readers) {
            double[] w = from.of(l.weight).clone();
            turn(w);
            int I = Math.toIntExact(l.inputs());
            for (int i = 0; i < w.length; i++) most[columns.of(i % I)] = Math.max(most[columns.of(i % I)], Math.abs(w[i]));
        }
        return most;
    }
}
