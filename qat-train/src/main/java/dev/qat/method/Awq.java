package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.ops.Grid;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.train.Chain;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.train.Watch;
import java.util.ArrayList;
import java.util.List;

/**
 * Activation-aware weight quantization (AWQ, arXiv 2306.00978): channels that carry large inputs are scaled up before rounding, by
 * scales that are searched, not trained, and merged; then groups are clipped. Inputs are the full-precision model's.
 *
 * <p>Official: the error looked at is that of the whole attention or MLP; here the sum of the linears' own. Official: o ← v only
 * without grouped queries; here one scale serves a key/value head's whole group, by the mean of its inputs.
 *
 * @param bits 0 takes the target's, without one 4  @param group −1 for the whole row; 0 takes the target's, without one 64
 * @param clip searches a clip per group; q and k are never clipped
 */
public record Awq(int bits, int group, boolean clip, int batch, Part windows) implements Stage {
    public static final Awq DEFAULTS = new Awq(0, 0, true, 1, Part.ALL);

    public Awq {
        Bits.check(bits);
        Positive.check("batch", batch);
    }

    @Override
    public void run(Run run) {
        run.reset();
        if (run.student().config.online().down() > 0) throw Fail.usage("awq scales channels of down_proj's input, and this model turns them on their way. Rotate without online, or let gptq follow.");
        List<Block> blocks = run.student().blocks();
        List<Linear> linears = new ArrayList<>();
        List<Solved> solved = new ArrayList<>();
        try (Chain chain = Chain.open(run, "awq", run.windows(windows), batch); Watch.Job job = run.watch().job("awq", blocks.size())) {
            for (Block b : blocks) {
                block(run, chain, b, linears, solved);
                job.step(b.index + 1, "block %d".formatted(b.index));
            }
            chain.free();
        }
        run.student().keep();
        GroupAffine.use(run, linears, bits, group, solved);
    }

    /** Looks at the block's inputs while the chain passes it, then changes its weights. */
    private void block(Run run, Chain chain, Block b, List<Linear> linears, List<Solved> solved) {
        Memory memory = run.backend().memory();
        List<ScalePair> pairs = ScalePair.of(b, run.student().config, true);
        List<Moments> moments = new ArrayList<>();
        List<Magnitudes> magnitudes = new ArrayList<>();
        for (ScalePair p : pairs) {
            moments.add(new Moments(run.backend(), p.readers().getFirst()));
            magnitudes.add(new Magnitudes(memory, p.readers().getFirst(), chain.x.rows()));
        }
        chain.advance(b, () -> magnitudes.forEach(Magnitudes::take));
        Merge merge = new Merge(memory);
        List<AwqSearch> searches = new ArrayList<>();
        for (int i = 0; i < pairs.size(); i++) {
            if (!run.planned()) searches.add(scale(run.rule(), pairs.get(i), moments.get(i), magnitudes.get(i), merge));
            moments.get(i).close();
            magnitudes.get(i).close();
        }
        for (int i = 0; i < pairs.size(); i++) {
            for (Linear l : pairs.get(i).readers()) {
                linears.add(l);
                if (!run.planned()) solved.add(searches.get(i).clipped(merge.of(l.weight), clip && l != b.q && l != b.k));
            }
        }
        merge.store();
    }

    private AwqSearch scale(Rule rule, ScalePair pair, Moments moments, Magnitudes magnitudes, Merge merge) {
        Linear first = pair.readers().getFirst();
        Grid grid = Range.grid(rule, "awq", first, bits, group);
        AwqSearch search = new AwqSearch(moments.values(), Math.toIntExact(first.inputs()), grid.bits(), grid.group());
        double[] s = search.scales(pair.mean(magnitudes.means()), pair.readers().stream().map(l -> merge.of(l.weight)).toList(), pair.columns());
        pair.merge(merge, s);
        return search.scaled(s, pair.columns());
    }
}
