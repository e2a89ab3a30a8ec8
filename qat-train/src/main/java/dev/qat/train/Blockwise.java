package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.method.GroupAffine;
import dev.qat.model.Block;
import dev.qat.model.Positions;
import dev.qat.ops.Ops;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Reconstructs one block after the other: the block's input comes from the already quantized prefix, its target from the
 * full-precision one (EfficientQAT's Block-AP, arXiv 2407.11062 §3.2). Both chains of activations are kept on the host, and
 * the device holds one block: its weights come from the source, its codes go to the host.
 */
public final class Blockwise {
    /** @param weightRate of weights and norm gains  @param scaleRate of steps and zero points */
    public record Config(int bits, int group, int epochs, int batch, double weightRate, double scaleRate, Schedule schedule,
                         AdamW.Config adam, Part windows, boolean shuffle) {}

    private final Run run;
    private final Config c;
    private final Packing packing;
    private final Memory memory;
    private final Windows windows;
    private final Tensor x, target, loss;   // (B·T, C), (B·T, C), (1)
    private final Positions at;
    /** Activations of every window that is used, (windows, T, C): of the full-precision prefix, and of the quantized one. */
    private final MemorySegment full, quantized;
    private final int batches;

    private Blockwise(Run run, Config c, Arena host, Packing packing) {
        this.run = run;
        this.packing = packing;
        this.c = c;
        this.memory = run.backend().memory();
        this.windows = run.windows(c.windows);
        this.batches = windows.count() / c.batch;
        if (batches == 0) throw dev.qat.tensor.Fail.usage("block-ap: batch = %d, but there are only %d training windows. Lower batch or give more text.", c.batch, windows.count());
        long n = (long) c.batch * windows.length();
        x = memory.tensor("block input", n, run.student().config.C());
        target = memory.tensor("block target", x.dims());
        loss = memory.tensor("loss", 1);
        at = run.student().positions(c.batch, windows.length());
        boolean planned = run.plan() != null;
        full = planned ? MemorySegment.NULL : host.allocate(batches * x.bytes(), 64);
        quantized = planned ? MemorySegment.NULL : host.allocate(full.byteSize(), 64);
        if (planned) run.plan().host("activation chains", 2 * batches * x.bytes());
    }

    /** Trains every block and leaves its codes in use. */
    public static void train(Run run, String stage, Config c) {
        try (Arena host = Arena.ofShared(); Packing packing = new Packing(run)) {
            Blockwise b = new Blockwise(run, c, host, packing);
            b.start();
            int blocks = run.student().blocks().size();
            try (Watch.Job job = run.watch().job(stage, (long) blocks * c.epochs * b.batches)) {
                for (Block block : run.student().blocks()) b.train(block, stage, job);
            }
            b.packing.use();
            for (Tensor t : List.of(b.x, b.target, b.loss, b.at.positions())) b.memory.free(t.address);
        }
    }

    private MemorySegment window(MemorySegment chain, long batch) {
        return chain.asSlice(batch * x.bytes(), x.bytes());
    }

    /** Both chains start at the embedding, unless an earlier process carried them further. */
    private void start() {
        if (run.plan() == null && !run.journal().past() && !run.journal().here()) embed();
    }

    private void embed() {
        int[] in = new int[c.batch * windows.length()], out = new int[in.length], rows = new int[c.batch];
        Tensor ids = memory.tensor("ids", DType.I32, in.length);
        for (int i = 0; i < batches; i++) {
            for (int b = 0; b < c.batch; b++) rows[b] = i * c.batch + b;
            windows.fill(rows, in, out);
            memory.set(ids, in);
            run.backend().embed(x, ids, run.student().embedding.value());
            memory.read(window(full, i), x);
            memory.read(window(quantized, i), x);
        }
        memory.free(ids.address);
    }

    /** Carries a chain from the block's input to its output. */
    private void advance(MemorySegment chain, Block block) {
        try (Step forward = new Step(run.backend(), "block forward", false, t -> t.backend().copy(x, block.forward(t, x, at)))) {
            if (run.plan() != null) {
                run.plan().add("block forward", block.index, batches, x.rows(), forward.cost());
                return;
            }
            for (int i = 0; i < batches; i++) {
                memory.write(x, window(chain, i));
                forward.run();
                memory.read(window(chain, i), x);
            }
        }
    }

    /** Brings the chains to where the block trains: its input quantized, its output in full precision. */
    private void approach(Block block) {
        Journal journal = run.journal();
        if (run.plan() == null && journal.here()) {
            journal.restore("full", full);
            journal.restore("quantized", quantized);
        } else {
            advance(full, block);
        }
        if (run.plan() == null) journal.hold(Map.of("full", full, "quantized", quantized));
    }

    private void train(Block block, String stage, Watch.Job job) {
        boolean past = run.journal().past(); // trained by an earlier process: only its codes are wanted
        run.student().bring(block, DType.F32);
        if (!past) approach(block);
        List<GroupAffine> quantizers = GroupAffine.install(run.backend(), "steps of block " + block.index, block.linears(), c.bits, c.group, run.rule());
        long total = (long) c.epochs * batches;
        try (AdamW adam = new AdamW(run.backend(), groups(block, quantizers), c.adam);
             Step step = new Step(run.backend(), "step of " + stage, true, t -> {
                 Tensor rows = Ops.mse(t, block.forward(t, x, at), target);
                 t.backward();
                 t.backend().copy(loss, rows);
                 adam.update(t.backend());
             })) {
            Trainer trainer = new Trainer(run, new Trainer.Name(stage, block.index), c.schedule, c.weightRate, adam);
            trainer.loop(job, block.index * total, total, i -> {
                int epoch = (int) (i / batches), k = (int) (i % batches);
                int b = c.shuffle ? Windows.order(run.recipe().seed(), epoch, batches)[k] : k;
                memory.write(x, window(quantized, b));
                memory.write(target, window(full, b));
            }, step, loss, 1, x.rows());
            if (run.plan() == null && !past) run.watch().say("block %d: mse %.4g -> %.4g".formatted(block.index, trainer.first(), trainer.last()));
        }
        run.use(block.linears(), GroupAffine.freeze(run.backend(), quantizers));
        GroupAffine.free(run.backend().memory(), quantizers);
        run.student().release(block);
        if (!past) {
            run.journal().release();
            advance(quantized, block);
        }
        packing.park();
    }

    private List<AdamW.Group> groups(Block block, List<GroupAffine> quantizers) {
        List<Param> trained = new ArrayList<>(block.linears().stream().map(l -> l.weight).toList()), scales = new ArrayList<>();
        trained.addAll(block.gains());
        for (GroupAffine q : quantizers) scales.addAll(q.params());
        return List.of(new AdamW.Group(trained, c.weightRate, 0), new AdamW.Group(scales, c.scaleRate, 0));
    }
}
