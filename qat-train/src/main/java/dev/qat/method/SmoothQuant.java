package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.tensor.Fail;
import dev.qat.train.Chain;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.stream.IntStream;

/**
 * SmoothQuant (arXiv 2211.10438): the input channels of q, k, v and of gate, up are divided by s, in the norms' gains, and the
 * weights' columns multiplied by it, so that weights take over a part of what makes activations hard to quantize.
 *
 * <pre>s_j = max|x_j|^α / max|w_j|^(1−α), at least 1e-5</pre>
 *
 * @param alpha how much the weights take over; the official tables have 0.8 to 0.9 for llamas
 */
public record SmoothQuant(double alpha, int batch, Part windows) implements Stage {
    public static final SmoothQuant DEFAULTS = new SmoothQuant(0.5, 1, Part.ALL);
    private static final double LEAST = 1e-5;

    public SmoothQuant {
        if (alpha < 0 || alpha > 1) throw Fail.usage("alpha = %s, expected a share in [0, 1]", alpha);
        Positive.check("batch", batch);
    }

    @Override
    public void run(Run run) {
        run.reset();
        List<Block> blocks = run.student().blocks();
        try (Chain chain = Chain.open(run, "smoothquant", run.windows(windows), batch); Watch.Job job = run.watch().job("smoothquant", blocks.size())) {
            for (Block b : blocks) {
                block(run, chain, b);
                job.step(b.index + 1, "block %d".formatted(b.index));
            }
            chain.free();
        }
        run.student().keep();
    }

    private void block(Run run, Chain chain, Block b) {
        List<ScalePair> pairs = ScalePair.of(b, run.student().config, false);
        List<Magnitudes> seen = pairs.stream().map(p -> new Magnitudes(run.backend().memory(), p.readers().getFirst(), chain.x.rows())).toList();
        chain.advance(b, seen);
        Merge merge = new Merge(run.backend().memory());
        List<MemorySegment> found = run.once("smoothquant", b.index, 8L * pairs.stream().mapToInt(ScalePair::scales).sum(), () -> IntStream.range(0, run.planned() ? 0 : pairs.size())
                .mapToObj(i -> MemorySegment.ofArray(scales(seen.get(i).largest(), pairs.get(i).largest(merge), alpha))).toList());
        for (int i = 0; i < found.size(); i++) pairs.get(i).merge(merge, found.get(i).toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED));
        seen.forEach(Magnitudes::close);
        merge.store();
    }

    static double[] scales(double[] inputs, double[] weights, double alpha) {
        double[] s = new double[inputs.length];
        for (int j = 0; j < s.length; j++) s[j] = Math.max(Math.pow(inputs[j], alpha) / Math.pow(Math.max(weights[j], LEAST), 1 - alpha), LEAST);
        return s;
    }
}
