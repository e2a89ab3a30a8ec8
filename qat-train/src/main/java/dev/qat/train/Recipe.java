package dev.qat.train;

import dev.qat.cuda.Precision;
import dev.qat.data.StoredType;
import dev.qat.export.Exports;
import dev.qat.export.Target;
import dev.qat.tensor.Fail;
import java.nio.file.Path;
import java.util.List;

/**
 * One run, as its YAML file says it: the model, where it runs, what it is trained and judged on, and the stages in order.
 *
 * @param backend auto (cuda where a device answers, else cpu), cpu, cuda or reference
 * @param precision what cuda's products read: bf16, tf32 or fp32  @param eager runs cuda's steps op by op, for debugging
 * @param threads of the CPU backend; 0 takes every core
 * @param target  the container the codes are trained for and written to at the end, such as gptq-v2:w2g64 or gguf:q4_0; empty for none
 * @param output  the directory of the run; everything it makes lies there
 */
public record Recipe(String name, Source model, String backend, Precision precision, boolean eager, int threads, long seed, Path output, Data data, Eval eval, Save save,
                     Checkpoint checkpoint, Recovery recovery, Observe observe, String target, List<Stage> stages) {
    /** @param init load reads the weights; random draws fresh ones for the directory's config.json (training from scratch) */
    public record Source(Path path, Init init) {
        public static final Source DEFAULTS = new Source(null, Init.LOAD);
    }

    public enum Init { LOAD, RANDOM }

    /**
     * Training windows: from the user's text or JSONL files, or sampled from the model itself where there are none.
     *
     * @param files      text (.txt, .gz) or JSONL with a "text" field; empty: the model's own samples
     * @param tokens     folders that {@code qat generate} made with this model's tokenizer: samples, joined and cut in their order
     * @param characters how many characters of the text to use, from the start; 0 for all
     * @param length     tokens per window  @param windows of the text, and of tokens, to use at most; 0 for all
     * @param draw       takes these windows from anywhere in the text, or in tokens, drawn by the seed and in the order drawn, instead of the first ones
     * @param samples    windows to sample from the model, beside those; 0 for none, or 128 where there is nothing else
     * @param temperature  @param topK  how the model's own text is sampled
     * @param bosShare   share of a text's windows that start with BOS instead of in mid-text, so that a model trained from
     *                   scratch learns to speak from nothing
     */
    public record Data(List<Path> files, List<Path> tokens, int characters, int length, int windows, boolean draw, int samples, double temperature, int topK, double bosShare) {
        public static final Data DEFAULTS = new Data(List.of(), List.of(), 0, 256, 0, false, 0, 1, 0, 0);

        /** Windows in the text's order, from its start. */
        public Data(List<Path> files, List<Path> tokens, int characters, int length, int windows, int samples, double temperature, int topK, double bosShare) {
            this(files, tokens, characters, length, windows, false, samples, temperature, topK, bosShare);
        }

        public Data {
            if (length < 2) throw Fail.usage("length = %d, expected at least 2 tokens", length);
            if (bosShare < 0 || bosShare > 1) throw Fail.usage("bos-share = %s, expected a share in [0, 1]", bosShare);
        }

        /** How many windows are sampled. */
        int sampled() {
            return samples == 0 && files.isEmpty() && tokens.isEmpty() ? 128 : samples;
        }
    }

    /**
     * Held-out windows, by the protocol "windows": BOS and the whole text encoded once, cut without overlap, last partial one dropped.
     *
     * @param skip characters of the text to leave out at its start  @param windows how many to sample (0: 32), or at most to use (0: all)
     */
    public record Eval(List<Path> files, int skip, int length, int windows, int batch) {
        public static final Eval DEFAULTS = new Eval(List.of(), 0, 256, 0, 8);

        public Eval {
            if (length < 2) throw Fail.usage("length = %d, expected at least 2 tokens", length);
        }

        int sampled() {
            return windows == 0 ? 32 : windows;
        }
    }

    /** @param dtype of the written model; f32 keeps a trained lattice exactly  @param embeddings how a GGUF target stores embedding and head: f16, q8_0 or q6_k */
    public record Save(StoredType dtype, String embeddings) {
        public static final Save DEFAULTS = new Save(StoredType.F32, "f16");

        public Save {
            if (!List.of(StoredType.F32, StoredType.BF16, StoredType.F16).contains(dtype)) throw Fail.usage("dtype = %s, expected f32, bf16 or f16", dtype);
            Exports.Options.of("embeddings", embeddings, false);
        }
    }

    /**
     * What is kept of an unfinished run, in its directory under checkpoints/.
     *
     * @param minutes between two checkpoints; 0 for none by time  @param steps of one loop between two; 0 for none by steps
     * @param keep    how many of them are kept; 0 keeps nothing at all
     * @param resume  auto goes on from the newest checkpoint where there is one, must fails where there is none, never begins anew
     */
    public record Checkpoint(double minutes, long steps, int keep, Resume resume) {
        public static final Checkpoint DEFAULTS = new Checkpoint(10, 0, 2, Resume.AUTO);

        public Checkpoint {
            if (minutes < 0) throw Fail.usage("minutes = %s, expected 0 (never) or more", minutes);
            if (steps < 0) throw Fail.usage("steps = %d, expected 0 (never) or more", steps);
            if (keep < 0) throw Fail.usage("keep = %d, expected 0 (none) or more", keep);
        }
    }

    public enum Resume { AUTO, NEVER, MUST }

    /**
     * What is done when a block's training breaks (NaN or infinity): it begins again from its first step at a lower rate.
     *
     * @param retries how often, before the run ends  @param rate each time, as a share of the rate before
     */
    public record Recovery(int retries, double rate) {
        public static final Recovery DEFAULTS = new Recovery(1, 0.5);

        public Recovery {
            if (retries < 0) throw Fail.usage("retries = %d, expected 0 or more", retries);
            if (rate <= 0 || rate > 1) throw Fail.usage("rate = %s, expected a share in (0, 1]", rate);
        }
    }

    /**
     * How a run is watched beside its log, metrics.jsonl and {@code qat status}.
     *
     * @param tensorboard writes event files under tensorboard/  @param prometheus a port that answers GET /metrics; 0 for none
     * @param mlflow a tracking server that is sent every number, such as http://mlflow:5000; empty for none
     */
    public record Observe(boolean tensorboard, int prometheus, String mlflow) {
        public static final Observe DEFAULTS = new Observe(true, 0, "");

        public Observe {
            if (prometheus < 0 || prometheus > 65535) throw Fail.usage("prometheus = %d, expected a port, or 0 for none", prometheus);
            if (!mlflow.matches("(https?://[^\\s/?#]+[^\\s?#]*)?")) throw Fail.usage("mlflow = %s, expected a server such as http://mlflow:5000, or nothing", mlflow);
        }
    }

    public static final Recipe DEFAULTS = new Recipe(null, Source.DEFAULTS, "auto", Precision.BF16, false, 0, 1, Path.of("runs"), Data.DEFAULTS, Eval.DEFAULTS,
            Save.DEFAULTS, Checkpoint.DEFAULTS, Recovery.DEFAULTS, Observe.DEFAULTS, "", null);

    public Recipe {
        Target.of(target);
        if (stages != null && stages.isEmpty()) throw Fail.usage("stages is empty, expected at least one");
        if (!List.of("auto", "cpu", "cuda", "reference").contains(backend)) throw Fail.usage("backend = %s, expected auto, cpu, cuda or reference", backend);
    }

    /** Where this run's files lie. */
    public Path directory() {
        return output.resolve(name);
    }
}
