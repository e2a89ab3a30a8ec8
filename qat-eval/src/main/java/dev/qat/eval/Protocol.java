package dev.qat.eval;

import dev.qat.data.Windows;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** How a text becomes the windows that a perplexity is measured on. Two numbers compare only under one protocol. */
public enum Protocol {
    /** BOS and the whole text encoded once; inputs ids[i:i+L], targets ids[i+1:i+L+1], i = 0, L, 2L..; a last partial window is dropped. */
    WINDOWS("\n"),

    /**
     * What the tables of the quantization papers show (GPTQ, arXiv 2210.17323; L = 2048): the text encoded once, floor(n/L)
     * pieces ids[i:i+L] of their own, positions 1..L−1 scored. The official code multiplies each piece's mean by L and divides
     * the sum by pieces · L, which is the mean over all scored positions.
     *
     * <p>A raw WikiText file (its first lines are {@code " "} and {@code " = Title = "}) is first joined the way the dataset's
     * rows are: lines with their end, blank ones empty, {@code "\n\n"} between.
     */
    GPTQ("\n\n"),

    /**
     * Each story by itself: the text split at {@code <|endoftext|>}, stories stripped, each BOS + encode(story); inputs
     * ids[:−1], targets ids[1:], one mean over all targets. A story longer than L is cut into windows of L.
     */
    STORIES(Protocol.END_OF_TEXT);

    private static final String END_OF_TEXT = "<|endoftext|>";

    /** What goes between the documents of a file that has several. */
    public final String separator;

    Protocol(String separator) {
        this.separator = separator;
    }

    /** As it is named on the command line and in reports. */
    public String key() {
        return name().toLowerCase(Locale.ROOT);
    }

    public static List<String> keys() {
        return Stream.of(values()).map(Protocol::key).toList();
    }

    /** The length of window this protocol is usually measured with, of a model with room for {@code context} tokens. */
    public int usualWindow(int context) {
        return switch (this) {
            case WINDOWS -> Math.min(256, context);
            case GPTQ -> Math.min(2048, context);
            case STORIES -> context;
        };
    }

    /** @param encode a text's ids, BOS before them where the tokenizer adds one */
    public Windows cut(String text, int window, Function<String, int[]> encode) {
        return switch (this) {
            case WINDOWS -> Windows.evaluation(encode.apply(text), window);
            case GPTQ -> Windows.separate(pieces(encode.apply(wikitextRows(text)), window), window);
            case STORIES -> stories(text, window, encode);
        };
    }

    private static List<int[]> pieces(int[] ids, int length) {
        if (ids.length < length) {
            throw Fail.data("%d tokens, too few for one window of %d tokens; give more text or choose a shorter window", ids.length, length);
        }
        List<int[]> pieces = new ArrayList<>();
        for (int at = 0; at + length <= ids.length; at += length) pieces.add(Arrays.copyOfRange(ids, at, at + length));
        return pieces;
    }

    private static Windows stories(String text, int most, Function<String, int[]> encode) {
        List<int[]> stories = Stream.of(text.split(Pattern.quote(END_OF_TEXT))).map(String::strip).filter(s -> !s.isEmpty()).map(encode).toList();
        int longest = stories.stream().mapToInt(s -> s.length - 1).max().orElse(0);
        return Windows.separate(stories, Math.clamp(longest, 1, most));
    }

    /** The rows of the Hugging Face dataset wikitext-2-raw-v1, joined; any other text as it is. */
    static String wikitextRows(String text) {
        if (!text.startsWith(" \n = ")) return text;
        return text.lines().map(line -> line.equals(" ") ? "" : line + "\n").collect(Collectors.joining("\n\n"));
    }
}
