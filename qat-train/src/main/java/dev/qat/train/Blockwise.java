package dev.qat.train;

import dev.qat.model.Block;
import dev.qat.ops.Ops;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import dev.qat.watch.Watch;
import java.util.List;
import java.util.Map;

/**
 * Reconstructs one block after the other: the block's input comes from the already quantized prefix, its target from the
 * full-precision one (EfficientQAT's Block-AP, arXiv 2407.11062 §3.2). Both chains of activations are kept on the host.
 */
public final class Blockwise {
    /** @param steps per block; 0 takes {@code epochs} over the windows  @param rate the rate that is shown: that of the first group */
    public record Config(int epochs, int steps, int batch, double rate, Schedule schedule, AdamW.Config adam, Part windows, boolean shuffle) {}

    /** What a method trains in a block, whose weights are in memory as fp32 masters. */
    public interface Method {
        /** Fills the block's sites; what trains, with its rates. */
        List<AdamW.Group> prepare(Block block);

        /** The block is trained: from here on it is what the next block's input goes through. */
        default void finish(Block block) {}
    }

    private final Run run;
    private final Config c;
    private final Method method;
    private final Runnable leave;
    private final Memory memory;
    private final Chain full, quantized;
    private final Tensor target, loss;   // (B·T, C), (1)
    private final long total;

    private Blockwise(Run run, String stage, Config c, Method method, Runnable leave) {
        this.run = run;
        this.c = c;
        this.method = method;
        this.leave = leave;
        this.memory = run.backend().memory();
        full = Chain.blank(run, stage, "full", run.windows(c.windows), c.batch);
        quantized = full.twin("quantized");
        target = memory.tensor("block target", full.x.dims());
        loss = memory.tensor("loss", 1);
        total = c.steps > 0 ? c.steps : (long) c.epochs * full.batches;
    }

    /** Trains every block. */
    public static void train(Run run, String stage, Config c, Method method) {
        train(run, stage, c, method, () -> {});
    }

    /** Trains every block of the model as it was read to codes, which wait on the host until all are there. */
    public static void codes(Run run, String stage, Config c, Method method) {
        run.reset();
        try (Packing packing = new Packing(run)) {
            train(run, stage, c, method, packing::park);
            packing.use();
        }
    }

    /** @param leave both chains have passed a block */
    private static void train(Run run, String stage, Config c, Method method, Runnable leave) {
        Blockwise b = new Blockwise(run, stage, c, method, leave);
        try (b.full; b.quantized; Watch.Job job = run.watch().job(stage, run.student().blocks().size() * b.total)) {
            b.full.embed();
            try {
                for (Block block : run.student().blocks()) b.train(block, stage, job);
            } finally {
                run.student().ahead(null);
            }
            for (Tensor t : List.of(b.target, b.loss)) b.memory.free(t.address);
            b.full.free();
        }
    }

    /** Loads the batch of a step, and starts the next one's on its way. */
    private void feed(Order order, long i) {
        int b = batch(order, i);
        quantized.load(b, quantized.x);
        full.load(b, target);
        if (i + 1 == total) return;
        int next = batch(order, i + 1);
        quantized.ahead(next);
        full.ahead(next);
    }

    /** The next block is read while this one trains. */
    private void ahead(int next) {
        if (next == run.student().blocks().size()) return;
        Block block = run.student().blocks().get(next);
        if (run.plan() == null) run.student().ahead(block);
        else if (memory.apart()) run.plan().host("the next block's weights", block.masterBytes());
    }

    private int batch(Order order, long i) {
        return order.at(i / full.batches, (int) (i % full.batches));
    }

    private void train(Block block, String stage, Watch.Job job) {
        boolean past = run.journal().past(); // trained by an earlier process: only what it leaves is wanted
        run.student().bring(block, DType.F32);
        full.advance(block); // now the block trains from the quantized chain to this one
        if (run.plan() == null && !past) run.journal().hold(full.states());
        if (!past) ahead(block.index + 1);
        try (AdamW adam = new AdamW(run.backend(), method.prepare(block), c.adam);
             Step step = new Step(run.backend(), "step of " + stage, true, t -> {
                 Ops.mse(t, loss, block.forward(t, quantized.x, quantized.at), target);
                 t.backward();
                 adam.update(t.backend());
             })) {
            Order order = new Order(c.shuffle, run.recipe().seed(), full.batches);
            Trainer trainer = new Trainer(run, new Trainer.Name(stage, block.index), c.schedule, c.rate, adam);
            trainer.fed(2 * full.batchBytes(), 2 * full.batches * full.batchBytes()).loop(job, block.index * total, total, i -> feed(order, i), step, loss, quantized.x.rows());
            if (run.plan() == null && !past) run.watch().say("block %d: mse %.4g -> %.4g".formatted(block.index, trainer.first(), trainer.last()));
        }
        method.finish(block);
        run.journal().release();
        if (block.index + 1 < run.student().blocks().size()) quantized.advance(block);
        leave.run();
    }
}
