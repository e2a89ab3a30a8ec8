package dev.qat.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.data.GeneratedSet;
import dev.qat.data.GeneratedSet.Part;
import dev.qat.data.Generation;
import dev.qat.data.HfModelDir;
import dev.qat.data.SelfGenerator;
import dev.qat.data.Standing;
import dev.qat.data.Tokenizer;
import dev.qat.data.Vocabulary;
import dev.qat.data.Windows;
import dev.qat.eval.TextQuality;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** Makes a part of a generated set, or what is missing of it, and judges it. */
public final class Generate {
    /** @param made tokens made now, in so many seconds  @param quality of the part as it stands; null where it has no sequence */
    public record Result(Path directory, long made, double seconds, int sequences, int kept, TextQuality quality) {}

    private static final int BATCH = 8;
    private static final ObjectMapper JSON = new ObjectMapper();

    private final GenerateRecipe r;
    private final Part part;
    private final Watch watch;
    private final Stop stop;

    private Generate(GenerateRecipe r, Part part, Watch watch, Stop stop) {
        this.r = r;
        this.part = part;
        this.watch = watch;
        this.stop = stop;
    }

    /** Until all is made, or until {@code stop} asks for an end: shards that stand are kept, and where the one at work stands. */
    public static Result run(GenerateRecipe r, Part part, Backend backend, Watch watch, Stop stop) {
        try (HfModelDir source = HfModelDir.open(r.model().path()); Tokenizer tokenizer = Tokenizer.of(source.dir())) {
            Model model = Model.load(source, backend.memory());
            int packed = PackedDecoding.use(model, source.dir(), backend);
            if (packed > 0) watch.say("%d linears are decoded from packed trits".formatted(packed));
            try (ModelLm lm = new ModelLm(model, backend)) {
                return new Generate(r, part, watch, stop).run(source, tokenizer, lm);
            }
        }
    }

    private Result run(HfModelDir source, Tokenizer tokenizer, ModelLm lm) {
        Generation g = r.generate().resolved(lm.vocabulary(), lm.context());
        Vocabulary vocabulary = tokenizer.vocabulary(lm.vocabulary());
        GeneratedSet set = GeneratedSet.open(r.directory(), part, GeneratedSet.settings(g, r.keep(), r.seed(), source.fingerprint(), vocabulary), vocabulary);
        int separator = separator(source);
        long start = System.nanoTime(), made = make(set, g, source, lm, separator);
        double seconds = (System.nanoTime() - start) * 1e-9;
        set.list();
        TextQuality quality = quality(set, g, separator, source, vocabulary, lm);
        int sequences = set.shards().stream().mapToInt(GeneratedSet.Shard::sequences).sum(), kept = set.shards().stream().mapToInt(GeneratedSet.Shard::kept).sum();
        if (quality != null) AtomicFile.write(r.directory().resolve("quality-%d-of-%d.json".formatted(part.index(), part.of())), report(quality, sequences, kept));
        return new Result(r.directory(), made, seconds, sequences, kept, quality);
    }

    /** What stands before every sequence: BOS, or EOS where a model has no BOS. */
    static int separator(HfModelDir source) {
        int[] eos = source.specialIds().eos();
        if (source.specialIds().bos() >= 0) return source.specialIds().bos();
        if (eos.length == 0) throw Fail.data("%s: neither bos_token_id nor eos_token_id in generation_config.json or config.json; sequences could not be told apart. Add one.", source.dir());
        return eos[0];
    }

    private long make(GeneratedSet set, Generation g, HfModelDir source, ModelLm lm, int separator) {
        List<Integer> missing = set.missing(g.shards());
        long all = missing.stream().mapToLong(s -> (long) g.length() * Math.min(g.shard(), g.sequences() - s * g.shard())).sum(), start = System.nanoTime();
        if (missing.isEmpty()) return 0;
        long[] made = {0, 0};
        try (SelfGenerator generator = new SelfGenerator(lm, g, r.seed(), source.specialIds().eos()); Watch.Job job = watch.job("generating", all)) {
            for (int s : missing) {
                Optional<Standing> from = set.standing(s);
                long before = made[0], bound = made[1], stood = from.map(Standing::tokens).orElse(0L);
                from.ifPresent(f -> watch.say("shard %d goes on where it stood, with %d of its tokens".formatted(s, stood)));
                int[][] rows = generator.shard(s, from.orElse(null), new SelfGenerator.Watcher() {
                    @Override
                    public void stands(long tokens) {
                        made[0] = before + tokens - stood;
                        job.step(Math.min(bound + tokens, all), String.format(Locale.ROOT, "tokens | %.0f tok/s", made[0] / ((System.nanoTime() - start) * 1e-9)));
                    }

                    @Override
                    public boolean ends() {
                        return stop.asked();
                    }

                    @Override
                    public void keep(Standing standing) {
                        set.keep(standing);
                        if (stop.asked()) throw Fail.again("%s while shard %d was made: stopped where it stands. Run the same command again to go on.", stop.wish(), s);
                    }
                });
                set.add(s, rows, separator, r.keep());
                made[1] += (long) g.length() * rows.length; // sequences that ended early will not come any more
            }
        }
        return made[0];
    }

    private TextQuality quality(GeneratedSet set, Generation g, int separator, HfModelDir source, Vocabulary vocabulary, ModelLm lm) {
        if (set.shards().stream().mapToInt(GeneratedSet.Shard::kept).sum() == 0) return null;
        List<int[]> sequences = set.sequences(separator);
        Windows user = null;
        if (!r.compare().files().isEmpty()) {
            int[] ids = Texts.ids(source, r.compare().files(), r.compare().skip(), r.compare().characters(), vocabulary.size());
            user = Windows.evaluation(ids, Math.min(g.length(), ids.length - 1));
        }
        return TextQuality.of(lm, sequences, g.length(), user, BATCH, r.compare().windows());
    }

    private static String report(TextQuality q, int sequences, int kept) {
        ObjectNode json = JSON.createObjectNode().put("sequences", sequences).put("kept", kept);
        json.setAll((ObjectNode) JSON.valueToTree(q));
        return json.put("sequences", sequences).toPrettyString() + "\n";
    }
}
