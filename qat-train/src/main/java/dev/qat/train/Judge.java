package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.model.Positions;
import dev.qat.ops.Backend;
import dev.qat.ops.Tape;
import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.util.Arrays;
import java.util.List;

/** Judges a student on held-out windows beside its full-precision teacher: perplexity, KL(teacher‖student), top-1 agreement. */
final class Judge implements AutoCloseable {
    /** @param perplexity exp of the mean negative log-likelihood  @param kl nats per token  @param top1 share of tokens where both prefer the same */
    record Quality(double perplexity, double kl, double top1, long tokens) {}

    private static final int CHUNK = 512;

    private final Memory memory;
    private final Windows windows;
    private final int batch;
    private final Tensor ids, targets, stats;
    private final Positions at;
    private final Step step;

    Judge(Backend backend, Model student, Model teacher, Windows windows, int batch) {
        this.memory = backend.memory();
        this.windows = windows;
        this.batch = Math.min(batch, windows.count());
        long n = (long) this.batch * windows.length();
        ids = memory.tensor("eval ids", DType.I32, n);
        targets = memory.tensor("eval targets", DType.I32, n);
        stats = memory.tensor("eval stats", n, 3);
        at = student.positions(this.batch, windows.length());
        step = new Step(backend, "evaluation", false, t -> body(t, student, teacher));
    }

    private void body(Tape t, Model student, Model teacher) {
        Tensor tx = teacher.hidden(t, ids, at, false), x = student == teacher ? tx : student.hidden(t, ids, at, false);
        Tensor logits = t.alloc("logits", CHUNK, student.config.V()), tlogits = t.alloc("teacher logits", logits.dims());
        t.backend().compare(stats, logits, tlogits, t.operand(x), t.operand(student.head.value()), t.operand(tx), t.operand(teacher.head.value()), targets);
    }

    Quality judge() {
        double nll = 0, kl = 0, same = 0;
        long tokens = 0;
        int cells = batch * windows.length();
        int[] in = new int[cells], out = new int[cells], rows = new int[batch];
        for (int from = 0; from < windows.count(); from += batch) {
            int have = Math.min(batch, windows.count() - from);
            for (int b = 0; b < batch; b++) rows[b] = from + Math.min(b, have - 1);
            windows.fill(rows, in, out);
            // a batch that is not full is filled up with windows that do not count
            Arrays.fill(out, have * windows.length(), cells, Windows.MASK);
            memory.set(ids, in);
            memory.set(targets, out);
            step.run();
            float[] s = memory.floats(stats);
            for (int n = 0; n < cells; n++) {
                if (out[n] < 0) continue;
                nll += s[3 * n];
                kl += s[3 * n + 1];
                same += s[3 * n + 2];
                tokens++;
            }
        }
        return new Quality(Math.exp(nll / tokens), kl / tokens, same / tokens, tokens);
    }

    @Override
    public void close() {
        step.close();
        for (Tensor t : List.of(ids, targets, stats, at.positions())) memory.free(t.address);
    }
}
