package dev.qat.eval;

import dev.qat.tensor.Fail;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;

/**
 * The zero-shot tasks of the quantization papers, worded as lm-evaluation-harness 0.4 words them, read from JSON lines in
 * which labels count from 0.
 */
public enum Task {
    ARC_EASY(Task::question),
    ARC_CHALLENGE(Task::question),
    /** The bare stem of the question. */
    OPENBOOKQA(in -> listed(in, in.text("question"), in.texts("choices"))),
    PIQA(in -> listed(in, "Question: " + in.text("goal") + "\nAnswer:", List.of(in.text("sol1"), in.text("sol2")))),
    HELLASWAG(Task::hellaswag),
    /** Partial evaluation: the rest of the sentence is scored after either name. */
    WINOGRANDE(Task::winogrande),
    /** The last word of a passage; right where every token of it is the model's first choice. */
    LAMBADA(Task::lambada);

    /** What a model is asked about one choice: log p(continuation | context).   characters: of the choice's own text */
    public record Choice(String context, String continuation, int characters) {
        /** The choice after a space; spaces at the context's end are scored with it, because its first token may begin with them. */
        static Choice of(String context, String choice) {
            int end = context.stripTrailing().length();
            return new Choice(context.substring(0, end), context.substring(end) + " " + choice, choice.codePointCount(0, choice.length()));
        }
    }

    /** @param label which choice is right, from 0  @param origin file:line */
    public record Item(List<Choice> choices, int label, String origin) {}

    private final Function<TaskLine, Item> reader;

    Task(Function<TaskLine, Item> reader) {
        this.reader = reader;
    }

    /** As it is named on the command line and in reports. */
    public String key() {
        return name().toLowerCase(Locale.ROOT);
    }

    public static List<String> keys() {
        return Stream.of(values()).map(Task::key).toList();
    }

    /** The items of a {@code .jsonl} or {@code .jsonl.gz} file, at most {@code most} of them (0: all). */
    public List<Item> read(Path file, int most) {
        if (!Files.isRegularFile(file)) throw Fail.data("%s: no such file, expected the items of %s as JSON lines; check the path", file, key());
        List<Item> items = new ArrayList<>();
        try (InputStream raw = Files.newInputStream(file);
                InputStream in = file.toString().endsWith(".gz") ? new GZIPInputStream(raw) : raw;
                BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
            int number = 0;
            for (String line = lines.readLine(); line != null && (most == 0 || items.size() < most); line = lines.readLine()) {
                number++;
                if (!line.isBlank()) items.add(reader.apply(TaskLine.parse(line, file + ":" + number)));
            }
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s; check that it is JSON lines, gzipped if its name ends in .gz", file, e.getMessage());
        }
        if (items.isEmpty()) throw Fail.data("%s: holds no items, expected those of %s as JSON lines", file, key());
        return items;
    }

    private static Item question(TaskLine in) {
        return listed(in, "Question: " + in.text("question") + "\nAnswer:", in.texts("choices"));
    }

    private static Item listed(TaskLine in, String context, List<String> choices) {
        return in.item(choices.stream().map(c -> Choice.of(context, c)).toList(), in.label(choices.size()));
    }

    /** Either ready made (ctx, endings), or as its authors publish it (activity_label, ctx_a, ctx_b), with WikiHow's marks removed. */
    private static Item hellaswag(TaskLine in) {
        if (in.has("ctx") && !in.has("ctx_a")) return listed(in, in.text("ctx"), in.texts("endings"));
        String b = in.text("ctx_b"), upper = b.isEmpty() ? b : b.substring(0, 1).toUpperCase(Locale.ROOT) + b.substring(1).toLowerCase(Locale.ROOT);
        String context = plain(in.text("activity_label") + ": " + in.text("ctx_a") + " " + upper);
        return listed(in, context, in.texts("endings").stream().map(Task::plain).toList());
    }

    static String plain(String wikihow) {
        return wikihow.strip().replace(" [title]", ". ").replaceAll("\\[.*?\\]", "").replace("  ", " ");
    }

    private static Item winogrande(TaskLine in) {
        String sentence = in.text("sentence");
        int gap = sentence.indexOf('_');
        if (gap < 0) throw in.wrong("sentence", "a sentence with a gap '_'");
        String rest = sentence.substring(gap + 1).strip();
        List<Choice> choices = Stream.of("option1", "option2").map(o -> Choice.of(sentence.substring(0, gap) + in.text(o), rest)).toList();
        return in.item(choices, in.label(2));
    }

    private static Item lambada(TaskLine in) {
        String text = in.text("text").strip();
        int space = text.lastIndexOf(' ');
        if (space < 0) throw in.wrong("text", "a passage of at least two words");
        return in.item(List.of(Choice.of(text.substring(0, space), text.substring(space + 1))), 0);
    }
}
