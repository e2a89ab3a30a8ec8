package dev.qat.cli;

import dev.qat.data.CausalLm;
import dev.qat.data.HfModelDir;
import dev.qat.data.Tokenizer;
import dev.qat.export.Exports;
import dev.qat.export.Frozen;
import dev.qat.export.GgufDir;
import dev.qat.export.GgufIn;
import dev.qat.export.LlamaCppLm;
import dev.qat.export.PackedIn;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import dev.qat.train.ModelLm;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.function.Function;

/** A model of any format that is read, opened to be judged: who answers, and how text becomes its tokens. */
final class Judged implements AutoCloseable {
    private final Deque<AutoCloseable> open = new ArrayDeque<>();
    private CausalLm lm;
    private Function<String, int[]> encoder;
    private String engine;

    private Judged() {}

    /** @param tokenizer the directory of a tokenizer.json, or null to look for it */
    static Judged open(Path path, Path tokenizer, Eval.Engine engine, Eval.Settings s) {
        Judged j = new Judged();
        try {
            if (engine == Eval.Engine.LLAMA_CPP) j.llama(path, tokenizer, s);
            else j.ours(path, tokenizer, s);
            return j;
        } catch (RuntimeException e) {
            j.close();
            throw e;
        }
    }

    private void ours(Path path, Path tokenizer, Eval.Settings s) {
        Backend backend = kept(Backends.open(s.backend(), s.threads()));
        Model m = load(path, backend);
        lm = kept(new ModelLm(m, backend));
        engine = backend.name();
        encode(tokenizer(path, tokenizer), m.config.V());
    }

    private static Model load(Path path, Backend backend) {
        if (!Files.isRegularFile(path) && !path.toString().endsWith(".gguf")) { // also where there is nothing: a directory is what most people mean
            try (HfModelDir dir = HfModelDir.open(path)) {
                if (!PackedIn.isPacked(dir)) return Model.load(dir, backend.memory());
            }
        }
        try (Frozen file = Exports.open(path)) {
            return file.load(backend.memory());
        }
    }

    private void llama(Path path, Path tokenizer, Eval.Settings s) {
        if (Files.isDirectory(path)) throw Fail.usage("--engine llama.cpp runs a GGUF file, and %s is a directory; export the run with --target gguf:TYPE", path);
        LlamaCppLm theirs = kept(LlamaCppLm.open(path, s.threads() > 0 ? s.threads() : Runtime.getRuntime().availableProcessors()));
        lm = theirs;
        engine = "llama.cpp";
        if (tokenizer == null) encoder = theirs::tokenize; // the file's own, where nobody asks for another
        else encode(Tokenizer.of(tokenizer), theirs.vocabulary());
    }

    private void encode(Tokenizer tokenizer, int vocabulary) {
        Tokenizer t = kept(tokenizer);
        t.vocabulary(vocabulary);
        encoder = t::encodeWithBos;
    }

    /** A model's tokenizer: from the directory that was given, the model's own, or what {@link GgufDir} finds for a file. */
    static Tokenizer tokenizer(Path model, Path given) {
        if (given != null || Files.isDirectory(model)) return Tokenizer.of(given != null ? given : model);
        try (GgufIn file = GgufIn.open(model); GgufDir dir = GgufDir.of(file)) {
            return Tokenizer.of(dir.dir());
        }
    }

    private <C extends AutoCloseable> C kept(C resource) {
        open.push(resource);
        return resource;
    }

    CausalLm lm() {
        return lm;
    }

    Function<String, int[]> encoder() {
        return encoder;
    }

    /** The backend's name, or llama.cpp. */
    String engine() {
        return engine;
    }

    @Override
    public void close() {
        while (!open.isEmpty()) {
            try {
                open.pop().close();
            } catch (RuntimeException e) {
                throw e;
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }
    }
}
