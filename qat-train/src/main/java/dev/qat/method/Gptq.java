package dev.qat.method;

import dev.qat.data.Windows;
import dev.qat.model.Block;
import dev.qat.model.Linear;
import dev.qat.ops.Grid;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.train.Chain;
import dev.qat.train.Packing;
import dev.qat.train.Part;
import dev.qat.train.Run;
import dev.qat.train.Stage;
import dev.qat.watch.Watch;
import java.util.ArrayList;
import java.util.List;
import java.util.StringJoiner;

/**
 * GPTQ (arXiv 2210.17323): every linear rounded column by column against the second moments of its inputs, block after block, the
 * inputs coming from the already quantized prefix.
 *
 * @param bits     0 takes the target's, without one 4  @param group −1 for the whole row; 0 takes the target's, without one 64
 * @param damp     added to the moments' diagonal, as a share of its mean; more where they are not positive definite
 * @param order    act-order: columns by falling second moment, on grids found from the original weight (static groups)
 * @param sequence true-sequential: q, k, v, then o, then gate, up, then down, each on inputs from what was quantized before it
 * @param count    of those windows to use, at most; 0 for all
 * @param search   looks for each group's range instead of taking min-max
 */
public record Gptq(int bits, int group, double damp, boolean order, boolean sequence, boolean search, int batch, Part windows, int count) implements Stage {
    public static final Gptq DEFAULTS = new Gptq(0, 0, 0.01, false, true, false, 1, Part.ALL, 0);

    public Gptq {
        Bits.check(bits);
        Positive.check("batch", batch);
        if (damp < 0 || damp >= 1) throw Fail.usage("damp = %s, expected a share of the mean in [0, 1)", damp);
    }

    @Override
    public boolean streams() {
        return true;
    }

    @Override
    public void run(Run run) {
        run.reset();
        Windows w = run.windows(windows).first(count);
        List<Block> blocks = run.student().blocks();
        try (Packing packing = new Packing(run); Chain chain = Chain.open(run, "gptq", w, batch); Watch.Job job = run.watch().job("gptq", blocks.size())) {
            for (Block b : blocks) {
                run.student().bring(b, DType.F32);
                StringJoiner errors = new StringJoiner(", ", "block %d: mean squared error of outputs: ".formatted(b.index), "").setEmptyValue("");
                for (List<List<Linear>> step : steps(b)) quantize(run, chain, b, step, errors);
                if (errors.length() > 0) run.watch().say(errors.toString()); // none where an earlier process solved it
                run.student().release(b);
                if (b.index + 1 < blocks.size()) chain.advance(b);
                packing.park();
                job.step(b.index + 1, "block %d".formatted(b.index));
            }
            chain.free();
            packing.use();
        }
    }

    /** Linears that share an input, in the steps in which they are quantized. */
    private List<List<List<Linear>>> steps(Block b) {
        List<List<Linear>> inputs = List.of(List.of(b.q, b.k, b.v), List.of(b.o), List.of(b.gate, b.up), List.of(b.down));
        return sequence ? inputs.stream().map(List::of).toList() : List.of(inputs);
    }

    private void quantize(Run run, Chain chain, Block b, List<List<Linear>> inputs, StringJoiner errors) {
        List<Linear> all = inputs.stream().flatMap(List::stream).toList();
        long bytes = all.stream().mapToLong(l -> l.weight.value().bytes()).sum();
        List<Moments> moments = inputs.stream().map(l -> new Moments(run.backend(), l.getFirst())).toList();
        chain.look(b, moments);
        List<Solved> solved = Solved.of(run.once("gptq", b.index, bytes, () -> Solved.segments(solve(run, chain, b, moments, inputs, errors))));
        moments.forEach(Moments::close);
        GroupAffine.use(run, all, bits, group, solved);
    }

    private List<Solved> solve(Run run, Chain chain, Block b, List<Moments> moments, List<List<Linear>> inputs, StringJoiner errors) {
        List<Solved> solved = new ArrayList<>();
        Runnable pause = () -> run.pause("gptq", b.index);
        long tokens = chain.batches * chain.x.rows();
        for (int i = 0; i < inputs.size() && !run.planned(); i++) {
            Linear first = inputs.get(i).getFirst();
            Grid grid = Range.grid(run.rule(), "gptq", first, bits, group);
            var options = new GptqSolver.Options(grid.bits(), grid.group(), damp, order, search);
            GptqSolver solver = new GptqSolver(first.name, moments.get(i).values(), Math.toIntExact(first.inputs()), options, pause);
            Merge weights = new Merge(run.backend().memory());
            for (Linear l : inputs.get(i)) {
                solved.add(solver.solve(weights.of(l.weight)));
                errors.add("%s %.2g".formatted(l.name.substring(l.name.lastIndexOf('.') + 1), solver.error() / (tokens * l.outputs())));
            }
        }
        return solved;
    }
}
