package dev.qat.cli;

import dev.qat.data.CausalLm;
import dev.qat.data.TextFiles;
import dev.qat.data.TextFiles.Document;
import dev.qat.data.Tokenizer;
import dev.qat.data.Windows;
import dev.qat.eval.MultipleChoice;
import dev.qat.eval.Perplexity;
import dev.qat.eval.Protocol;
import dev.qat.eval.Task;
import dev.qat.tensor.Fail;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code qat eval}: perplexity by a named protocol, and zero-shot tasks, of one model or of two side by side. */
@Command(name = "eval", mixinStandardHelpOptions = true, versionProvider = Main.Version.class,
        description = "Judge a model: perplexity of a text by a named protocol, and zero-shot tasks.")
final class Eval implements Callable<Integer> {
    /**
     * @param window     tokens per window; 0 takes the protocol's usual: windows 256, gptq 2048, stories the model's context
     * @param skip       characters of the text to leave out at its start  @param characters how many to use then, 0 for all
     * @param items      how many of each task to judge, from the start; 0 for all
     */
    record Settings(int window, String backend, int threads, int batch, int skip, int characters, int items) {
        static final Settings DEFAULTS = new Settings(0, "auto", 0, 8, 0, 0, 0);

        Settings {
            if (window < 0 || window == 1) throw Fail.usage("window = %d, expected at least 2 tokens, or 0 for the protocol's usual", window);
            if (batch < 1) throw Fail.usage("batch = %d, expected at least 1", batch);
            for (int count : new int[] {threads, skip, characters, items}) if (count < 0) throw Fail.usage("%d where 0 or more is expected (threads, skip, characters, items)", count);
        }
    }

    /** A task and the file with its items. */
    private record Asked(Task task, Path file) {}

    /** Who runs the model. */
    enum Engine { QAT, LLAMA_CPP }

    @Option(names = "--model", required = true, paramLabel = "PATH",
            description = "What to judge: a Hugging Face directory, a GPTQ, AWQ or compressed-tensors one, or a GGUF file.")
    private Path model;

    @Option(names = "--engine", paramLabel = "NAME", description = "qat (default), or llama.cpp for a GGUF file.")
    private String engineName = "qat";

    @Option(names = "--tokenizer", paramLabel = "DIR", description = "A directory whose tokenizer.json to use for a GGUF file; else the one beside it or in its run, else the file's own.")
    private Path tokenizer;

    private Engine engine;

    @Option(names = "--against", paramLabel = "PATH", description = "Another with the same tokenizer: judged too, and tested for a difference.")
    private Path against;

    @Option(names = "--text", paramLabel = "FILE", description = "Text, or JSONL with a \"text\" field; .gz is read too.")
    private Path text;

    @Option(names = "--protocol", paramLabel = "NAME", description = "windows (default), gptq or stories: how the text is cut.")
    private String protocol = Protocol.WINDOWS.key();

    @Option(names = "--tasks", paramLabel = "TASK:FILE", split = ",", description = "arc_easy, arc_challenge, openbookqa, piqa, hellaswag, winogrande, lambada, each with its JSON lines.")
    private List<String> tasks = List.of();

    @Option(names = "--json", description = "Print the result as one JSON object.")
    private boolean json;

    @Parameters(paramLabel = "KEY=VALUE", description = "window, backend, threads, batch, skip, characters, items.")
    private List<String> words = List.of();

    @Override
    public Integer call() {
        Settings s = RecipeReader.words("eval", words, Settings.class);
        Protocol p = protocol();
        engine = engine();
        List<Asked> asked = tasks.stream().map(Eval::asked).toList();
        if (text == null && asked.isEmpty()) throw Fail.usage("nothing to judge by: give --text FILE, --tasks TASK:FILE, or both");
        if (against != null) requireOneTokenizer();
        List<Verdict> verdicts = new ArrayList<>();
        for (Path dir : against == null ? List.of(model) : List.of(model, against)) verdicts.add(judge(dir, p, asked, s));
        System.out.print(json ? Verdict.json(verdicts) : Verdict.text(verdicts));
        System.out.flush();
        return 0;
    }

    private Protocol protocol() {
        String name = protocol.toLowerCase(Locale.ROOT);
        if (Protocol.keys().contains(name)) return Protocol.valueOf(name.toUpperCase(Locale.ROOT));
        throw Fail.usage("--protocol %s, expected one of %s%s", protocol, String.join(", ", Protocol.keys()), Nearest.hint(name, Protocol.keys()));
    }

    private Engine engine() {
        return switch (engineName.toLowerCase(Locale.ROOT)) {
            case "qat" -> Engine.QAT;
            case "llama.cpp", "llamacpp" -> Engine.LLAMA_CPP;
            default -> throw Fail.usage("--engine %s, expected qat or llama.cpp", engineName);
        };
    }

    private static Asked asked(String word) {
        int colon = word.indexOf(':');
        String name = word.substring(0, Math.max(0, colon)).toLowerCase(Locale.ROOT);
        if (colon < 0) throw Fail.usage("--tasks %s has no ':', expected TASK:FILE, as in arc_easy:arc_easy_test.jsonl.gz", word);
        if (!Task.keys().contains(name)) throw Fail.usage("--tasks %s: no task '%s'%s Known: %s", word, name, dotted(Nearest.hint(name, Task.keys())), String.join(", ", Task.keys()));
        return new Asked(Task.valueOf(name.toUpperCase(Locale.ROOT)), Path.of(word.substring(colon + 1)));
    }

    private static String dotted(String hint) {
        return hint.isEmpty() ? "." : hint;
    }

    /** Per token, two models compare only where the tokens are the same. */
    private void requireOneTokenizer() {
        if (tokenizer != null || engine == Engine.LLAMA_CPP) return;
        try (Tokenizer a = Judged.tokenizer(model, null); Tokenizer b = Judged.tokenizer(against, null)) {
            if (!a.vocabulary(a.size()).equals(b.vocabulary(b.size()))) {
                throw Fail.data("%s and %s have different tokenizers, so their tokens do not compare; judge them one by one", model, against);
            }
        }
    }

    private Verdict judge(Path path, Protocol p, List<Asked> asked, Settings s) {
        long start = System.nanoTime();
        try (Judged judged = Judged.open(path, tokenizer, engine, s)) {
            Perplexity perplexity = text == null ? null : perplexity(judged, p, s);
            List<MultipleChoice.Score> scores = asked.stream().map(a -> score(judged, a, s)).toList();
            return new Verdict(path, Optional.ofNullable(perplexity), scores, judged.engine(), (System.nanoTime() - start) * 1e-9);
        }
    }

    private Perplexity perplexity(Judged judged, Protocol p, Settings s) {
        CausalLm lm = judged.lm();
        String all = TextFiles.read(text).stream().map(Document::text).collect(Collectors.joining(p.separator));
        int window = s.window == 0 ? p.usualWindow(lm.context()) : s.window;
        Windows windows = p.cut(TextFiles.part(all, s.skip, s.characters), window, judged.encoder());
        try (Progress progress = Progress.start("perplexity, " + p.key(), windows.count())) {
            return Perplexity.measure(lm, p, windows, s.batch, n -> progress.step(n, "windows of %d tokens".formatted(windows.length())));
        }
    }

    private static MultipleChoice.Score score(Judged judged, Asked a, Settings s) {
        List<Task.Item> items = a.task.read(a.file, s.items);
        try (Progress progress = Progress.start(a.task.key(), items.stream().mapToInt(i -> i.choices().size()).sum())) {
            return new MultipleChoice(judged.lm(), judged.encoder(), s.batch).judge(a.task, items, n -> progress.step(n, "choices"));
        }
    }
}
