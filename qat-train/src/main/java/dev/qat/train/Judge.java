package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;

/**
 * Judges a student on held-out windows beside its full-precision teacher: perplexity, KL(teacher‖student), top-1 agreement.
 *
 * <p>The teacher's last hidden states are computed once, with one block in memory at a time, and kept on the host.
 */
final class Judge {
    /** @param perplexity exp of the mean negative log-likelihood  @param kl nats per token  @param top1 share of tokens where both prefer the same */
    record Quality(double perplexity, double kl, double top1, long tokens) {}

    private static final int CHUNK = 512;

    private final Run run;
    private final Model student;
    private final Memory memory;
    private final Windows windows;
    private final int batch, batches;
    /** The teacher's last hidden states, (batches, batch · T, C); null while they are not known, and where the student is its own teacher. */
    private MemorySegment teacher;

    Judge(Run run, Windows windows, int batch) {
        this.run = run;
        this.student = run.student();
        this.memory = run.backend().memory();
        this.windows = windows;
        this.batch = Math.min(batch, windows.count());
        this.batches = Math.ceilDiv(windows.count(), this.batch);
    }

    /** What one judgement has in the device's memory. */
    private final class Desk implements AutoCloseable {
        final int cells = batch * windows.length();
        final int[] in = new int[cells], out = new int[cells];
        final Tensor ids = memory.tensor("eval ids", DType.I32, cells), targets = memory.tensor("eval targets", DType.I32, cells),
                stats = memory.tensor("eval stats", cells, 3), hidden = memory.tensor("eval hidden states", cells, student.config.C());
        final Positions at = student.positions(batch, windows.length());

        /** Uploads a batch; one that is not full is filled up with windows that do not count. */
        void fill(int index) {
            int from = index * batch, have = Math.min(batch, windows.count() - from);
            int[] rows = new int[batch];
            for (int b = 0; b < batch; b++) rows[b] = from + Math.min(b, have - 1);
            windows.fill(rows, in, out);
            Arrays.fill(out, have * windows.length(), cells, Windows.MASK);
            memory.set(ids, in);
            memory.set(targets, out);
        }

        MemorySegment slice(int index) {
            return teacher.asSlice(index * hidden.bytes(), hidden.bytes());
        }

        @Override
        public void close() {
            for (Tensor t : List.of(ids, targets, stats, hidden, at.positions())) memory.free(t.address);
        }
    }

    /** @param itself judges the teacher as if it were the student */
    Quality judge(boolean itself) {
        boolean alone = run.source() == student;
        try (Desk desk = new Desk()) {
            if (!alone && teacher == null) teacher(desk);
            try (Step step = new Step(run.backend(), "evaluation", false, t -> compare(t, desk, itself, alone))) {
                return run.planned() ? null : judge(desk, step, alone);
            }
        }
    }

    private void compare(Tape t, Desk desk, boolean itself, boolean alone) {
        Tensor x = itself ? desk.hidden : student.hidden(t, desk.ids, desk.at, false), tx = alone ? x : desk.hidden;
        Tensor logits = t.alloc("logits", CHUNK, student.config.V()), tlogits = t.alloc("teacher logits", logits.dims());
        t.backend().compare(desk.stats, logits, tlogits, t.operand(x), t.operand(student.head.value()), t.operand(tx), t.operand(run.source().head.value()), desk.targets);
    }

    private Quality judge(Desk desk, Step step, boolean alone) {
        double nll = 0, kl = 0, same = 0;
        long tokens = 0;
        for (int i = 0; i < batches; i++) {
            pause();
            desk.fill(i);
            if (!alone) memory.write(desk.hidden, desk.slice(i));
            step.run();
            float[] s = memory.floats(desk.stats);
            for (int n = 0; n < desk.cells; n++) {
                if (desk.out[n] < 0) continue;
                nll += s[3 * n];
                kl += s[3 * n + 1];
                same += s[3 * n + 2];
                tokens++;
            }
        }
        return new Quality(Math.exp(nll / tokens), kl / tokens, same / tokens, tokens);
    }

    /** Carries all windows through the teacher, block by block. */
    private void teacher(Desk desk) {
        Model m = run.source();
        long bytes = batches * desk.hidden.bytes();
        teacher = run.planned() ? MemorySegment.NULL : Arena.ofAuto().allocate(bytes, 64);
        if (run.planned()) run.plan().host("teacher's hidden states", bytes);
        else for (int i = 0; i < batches; i++) {
            desk.fill(i);
            run.backend().embed(desk.hidden, desk.ids, m.embedding.value());
            memory.read(desk.slice(i), desk.hidden);
        }
        for (var block : m.blocks()) {
            m.bring(block, run.backend().operand());
            pass(desk, "teacher's block", t -> t.backend().copy(desk.hidden, block.forward(t, desk.hidden, desk.at)));
            m.forget(block);
        }
        pass(desk, "teacher's norm", t -> t.backend().copy(desk.hidden, m.normed(t, desk.hidden)));
    }

    /** Runs a step on every batch of the chain. */
    private void pass(Desk desk, String owner, java.util.function.Consumer<Tape> body) {
        try (Step step = new Step(run.backend(), owner, false, body)) {
            for (int i = 0; i < batches && !run.planned(); i++) {
                pause();
                memory.write(desk.hidden, desk.slice(i));
                step.run();
                memory.read(desk.slice(i), desk.hidden);
            }
        }
    }

    /** Between two batches the run may be asked to end. */
    private void pause() {
        run.journal().pause("between two stages");
    }
}
