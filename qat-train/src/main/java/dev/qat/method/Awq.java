package dev.qat.method;

import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.model.ModelConfig;
import dev.qat.ops.Grid;
import dev.qat.tensor.Fail;
import dev.qat.train.Chain;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

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
        ModelConfig.Online turned = run.student().config.online();
        if (turned.down() > 0 || turned.across() > 0) throw Fail.usage("awq scales channels of the inputs of o_proj and down_proj, and this model turns them on their way. Rotate without online, or let gptq follow.");
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

    /** Looks at the block's inputs while the chain passes it, then changes its weights. A search merges as it goes, since a pair's scales change what the next one sees. */
    private void block(Run run, Chain chain, Block b, List<Linear> linears, List<Solved> solved) {
        List<ScalePair> pairs = ScalePair.of(b, run.student().config, true);
        pairs.forEach(p -> linears.addAll(p.readers()));
        Merge merge = new Merge(run.backend().memory());
        List<Moments> moments = pairs.stream().map(p -> new Moments(run.backend(), p.readers().getFirst())).toList();
        List<Magnitudes> magnitudes = pairs.stream().map(p -> new Magnitudes(run.backend().memory(), p.readers().getFirst(), chain.x.rows())).toList();
        chain.advance(b, Stream.concat(moments.stream(), magnitudes.stream()).toList());
        boolean[] searched = {false};
        long bytes = b.linears().stream().mapToLong(l -> l.weight.value().bytes()).sum();
        List<MemorySegment> found = run.once("awq", b.index, bytes, () -> {
            searched[0] = true;
            return run.planned() ? List.of() : search(run, b, pairs, moments, magnitudes, merge);
        });
        for (int i = 0; i < pairs.size() && !searched[0]; i++) pairs.get(i).merge(merge, found.get(i).toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED));
        moments.forEach(Moments::close);
        magnitudes.forEach(Magnitudes::close);
        if (!run.planned()) solved.addAll(Solved.of(found.subList(pairs.size(), found.size())));
        merge.store();
    }

    /** Merges every pair's scales; returns them, and behind them the block's clipped weights in the order of the pairs' readers. */
    private List<MemorySegment> search(Run run, Block b, List<ScalePair> pairs, List<Moments> moments, List<Magnitudes> magnitudes, Merge merge) {
        Runnable pause = () -> run.pause("awq", b.index);
        List<MemorySegment> found = new ArrayList<>();
        List<AwqSearch> searches = new ArrayList<>();
        for (int i = 0; i < pairs.size(); i++) searches.add(scale(run.rule(), pairs.get(i), moments.get(i), magnitudes.get(i), merge, found, pause));
        List<Solved> solved = new ArrayList<>();
        for (int i = 0; i < searches.size(); i++) {
            for (Linear l : pairs.get(i).readers()) solved.add(searches.get(i).clipped(merge.of(l.weight), clip && l != b.q && l != b.k));
        }
        found.addAll(Solved.segments(solved));
        return found;
    }

    private AwqSearch scale(Rule rule, ScalePair pair, Moments moments, Magnitudes magnitudes, Merge merge, List<MemorySegment> found, Runnable pause) {
        Linear first = pair.readers().getFirst();
        Grid grid = Range.grid(rule, "awq", first, bits, group);
        AwqSearch search = new AwqSearch(moments.values(), Math.toIntExact(first.inputs()), grid.bits(), grid.group(), pause);
        double[] s = search.scales(pair.mean(magnitudes.means()), pair.readers().stream().map(l -> merge.of(l.weight)).toList(), pair.columns());
        pair.merge(merge, s);
        found.add(MemorySegment.ofArray(s));
        return search.scaled(s, pair.columns());
    }
}
