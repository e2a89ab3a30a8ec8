package dev.qat.train;

import dev.qat.data.GeneratedSet;
import dev.qat.data.HfModelDir;
import dev.qat.data.SelfSampler;
import dev.qat.data.TextFiles;
import dev.qat.data.Tokenizer;
import dev.qat.data.Windows;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Philox;
import dev.qat.ops.Sampling;
import dev.qat.tensor.Fail;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * What a run trains on and is judged by: the user's text, or what the model says by itself.
 *
 * @param description where the held-out windows come from, in words
 */
record Texts(TrainingSet train, Windows heldOut, String description) {
    private static final int BATCH = 64;
    /** In place of an epoch's number, since epochs are drawn from the same seed. */
    private static final int DRAWN = -1;

    static Texts of(Recipe r, HfModelDir source, Model teacher, Backend backend, Watch watch, Samples kept) {
        boolean samples = r.data().sampled() > 0 || r.eval().files().isEmpty();
        if (samples && r.model().init() == Recipe.Init.RANDOM) {
            throw Fail.usage("a model with random weights has nothing to say: give data.files and eval.files");
        }
        TrainingSet train = training(r, source, teacher, backend, watch, kept);
        if (!r.eval().files().isEmpty()) {
            int[] ids = ids(source, r.eval().files(), r.eval().skip(), 0, teacher.config.V());
            Windows held = limited(Windows.evaluation(ids, r.eval().length()), r.eval().windows());
            return new Texts(train, held, "%s, windows of %d".formatted(r.eval().files(), r.eval().length()));
        }
        Windows held = sampled(r, source, teacher, backend, watch, kept, "sampling held-out text", r.data().sampled(), r.eval().sampled(), r.eval().length());
        return new Texts(train, held, "%d fresh samples of the model's own, %d tokens each".formatted(held.count(), held.length()));
    }

    private static TrainingSet training(Recipe r, HfModelDir source, Model teacher, Backend backend, Watch watch, Samples kept) {
        List<Windows> samples = new ArrayList<>();
        if (!r.data().tokens().isEmpty()) samples.add(generated(r, source, teacher.config.V()));
        if (r.data().sampled() > 0) samples.add(sampled(r, source, teacher, backend, watch, kept, "sampling training text", 0, r.data().sampled(), r.data().length()));
        return TrainingSet.of(r.data().files().isEmpty() ? null : text(r, source, teacher.config.V()), samples.isEmpty() ? null : Windows.join(samples));
    }

    /** Sets that were generated before, one after the other in one stream. */
    private static Windows generated(Recipe r, HfModelDir source, int V) {
        try (Tokenizer tokenizer = Tokenizer.of(source.dir())) {
            return some(r, Windows.train(GeneratedSet.stream(r.data().tokens(), tokenizer.vocabulary(V)), r.data().length()));
        }
    }

    private static Windows text(Recipe r, HfModelDir source, int V) {
        Windows all = cut(r, ids(source, r.data().files(), 0, r.data().characters(), V), source.specialIds().bos());
        return some(r, all);
    }

    /** As many windows as the recipe allows: the first ones, or drawn. */
    private static Windows some(Recipe r, Windows all) {
        if (!r.data().draw()) return limited(all, r.data().windows());
        int[] order = Windows.order(r.seed(), DRAWN, all.count());
        return limited(new Windows(all.ids(), Arrays.stream(order).map(i -> all.starts()[i]).toArray(), all.length()), r.data().windows());
    }

    /** As many windows as a run would have: of the text as many as the recipe allows, else as there are; and blank ones for what would be sampled. */
    static TrainingSet trainingShape(Recipe r, HfModelDir source, int V) {
        Windows text = r.data().files().isEmpty() ? null : r.data().windows() > 0 ? blank(r.data().windows(), r.data().length()) : text(r, source, V);
        List<Windows> samples = new ArrayList<>();
        if (!r.data().tokens().isEmpty()) samples.add(r.data().windows() > 0 ? blank(r.data().windows(), r.data().length()) : generated(r, source, V));
        if (r.data().sampled() > 0) samples.add(blank(r.data().sampled(), r.data().length()));
        return TrainingSet.of(text, samples.isEmpty() ? null : Windows.join(samples));
    }

    /** What sampling will need: the whole model, and the caches of a batch. */
    static void plan(Recipe r, Model teacher, Backend backend) {
        if (r.data().sampled() > 0) plan(r.data().sampled(), r.data().length(), teacher, backend);
        if (r.eval().files().isEmpty()) plan(r.eval().sampled(), r.eval().length(), teacher, backend);
    }

    private static void plan(int count, int length, Model teacher, Backend backend) {
        teacher.bring();
        try (ModelLm lm = new ModelLm(teacher, backend)) {
            lm.decoder(Math.min(BATCH, count), Math.min(length + 1, lm.context()), Sampling.GREEDY).close();
        }
    }

    static Windows blank(int count, int length) {
        return Windows.train(new int[count * length], length);
    }

    /** Sequences numbered from {@code first}: the held-out ones start after the training ones, so no sequence is in both. */
    private static Windows sampled(Recipe r, HfModelDir source, Model teacher, Backend backend, Watch watch, Samples kept, String title, int first, int count, int length) {
        int bos = source.specialIds().bos();
        if (bos < 0) throw Fail.data("%s: config.json and generation_config.json name no bos_token_id, so the model cannot be sampled. Give data.files and eval.files.", source.dir());
        Sampling how = new Sampling((float) r.data().temperature(), r.data().topK(), 1, r.seed());
        teacher.bring();
        String details = "sequences of %d tokens".formatted(length);
        try (ModelLm lm = new ModelLm(teacher, backend); Watch.Job job = watch.job(title, count)) {
            int tokens = Math.min(length + 1, lm.context()), batch = Math.min(BATCH, count);
            List<int[]> rows = kept.read(first, tokens);
            while (rows.size() < count) {
                // always a whole batch, so that a sequence does not depend on where an earlier process ended
                rows.addAll(SelfSampler.sample(lm, bos, first + rows.size(), batch, tokens, batch, how, _ -> {}));
                kept.write(first, rows);
                job.step(Math.min(rows.size(), count), details);
            }
            return Windows.separate(rows.subList(0, count), length);
        }
    }

    /** Windows in the text's order; a share of them, drawn by the seed, has BOS before its first token. */
    private static Windows cut(Recipe r, int[] ids, int bos) {
        int L = r.data().length();
        if (r.data().bosShare() == 0) return Windows.train(ids, L);
        List<int[]> rows = new ArrayList<>();
        for (int at = 0; at + L < ids.length; at += L) {
            int[] row = Arrays.copyOfRange(ids, at, at + L + 1);
            if (Philox.uniform(r.seed(), at / L, 0, 0) < r.data().bosShare()) {
                System.arraycopy(row, 0, row, 1, L);
                row[0] = bos;
            }
            rows.add(row);
        }
        return Windows.separate(rows, L);
    }

    private static Windows limited(Windows w, int most) {
        if (w.count() == 0) throw Fail.data("the text is too short for one window of %d tokens. Give more text or a smaller length.", w.length());
        return w.first(most);
    }

    /** BOS and the whole text, encoded once.  skip, most: characters */
    static int[] ids(HfModelDir source, List<Path> files, int skip, int most, int V) {
        StringBuilder text = new StringBuilder();
        for (Path f : files) TextFiles.forEach(f, d -> text.append(text.isEmpty() ? "" : "\n").append(d.text()));
        String part = TextFiles.part(text.toString(), skip, most);
        try (Tokenizer tokenizer = Tokenizer.of(source.dir())) {
            tokenizer.vocabulary(V);
            return tokenizer.encodeWithBos(part);
        }
    }
}
