package dev.qat.export;

import dev.qat.data.CausalLm;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import dev.qat.train.Step;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Assumptions;

/** llama.cpp beside our own engine; where its library does not load, or a real model is missing, a test says so aloud. */
final class Oracle {
    private static final String PROBLEM = problem();

    private Oracle() {}

    private static String problem() {
        try (LlamaProcess _ = LlamaProcess.start()) {
            return null;
        } catch (Fail e) {
            return e.getMessage();
        }
    }

    static void require() {
        if (PROBLEM == null) return;
        System.err.println("SKIPPED: no test against llama.cpp: " + PROBLEM);
        Assumptions.abort(PROBLEM);
    }

    static Path asset(String name) {
        Path path = Path.of(System.getProperty("qat.shared", "shared-not-given")).resolve("assets").resolve(name);
        if (Files.exists(path)) return path;
        System.err.println("SKIPPED: " + path + " is missing; run with -Dqat.shared=FOLDER to test against the real files");
        Assumptions.abort(path + " is missing");
        return path;
    }

    /** Our own logits at every token of one sequence.   ids (T) → (T · V) */
    static float[] logits(Model m, Backend backend, int[] ids) {
        var at = m.positions(1, ids.length);
        Tensor in = backend.memory().tensor("ids", DType.I32, ids.length), out = backend.memory().tensor("logits", ids.length, m.config.V());
        backend.memory().set(in, ids);
        try (Step step = new Step(backend, "logits", false, t -> t.backend().copy(out, Ops.linear(t, m.hidden(t, in, at, false), m.head.value(), null, null)))) {
            step.run();
            return backend.memory().floats(out);
        }
    }

    static double cosine(float[] a, float[] b) {
        double ab = 0, aa = 0, bb = 0;
        for (int i = 0; i < a.length; i++) {
            ab += (double) a[i] * b[i];
            aa += (double) a[i] * a[i];
            bb += (double) b[i] * b[i];
        }
        return ab / Math.sqrt(aa * bb);
    }

    /** exp of the mean −log p of each next token in B windows of T + 1 tokens. */
    static double perplexity(CausalLm lm, int[] text, int B, int T) {
        int[] ids = new int[B * T], targets = new int[B * T];
        for (int i = 0; i < B * T; i++) {
            ids[i] = text[i];
            targets[i] = text[i + 1];
        }
        float[] nll = new float[B * T];
        lm.score(B, T, ids, targets, nll);
        double sum = 0;
        for (float x : nll) sum += x;
        return Math.exp(sum / nll.length);
    }

    static int[] randomIds(int n, int vocabulary) {
        return new Random(3).ints(n, 0, vocabulary).toArray();
    }
}
