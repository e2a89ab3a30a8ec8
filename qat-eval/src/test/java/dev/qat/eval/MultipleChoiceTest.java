package dev.qat.eval;

import static dev.qat.eval.Bigram.encode;
import static dev.qat.eval.Bigram.favourite;
import static dev.qat.eval.Bigram.logp;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.eval.MultipleChoice.Score;
import dev.qat.eval.Task.Choice;
import dev.qat.eval.Task.Item;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MultipleChoiceTest {
    @TempDir
    Path dir;

    private List<Item> items(Task task, String... lines) throws IOException {
        Path file = dir.resolve("items.jsonl");
        Files.writeString(file, String.join("\n", lines) + "\n");
        return task.read(file, 0);
    }

    private static Score judge(Task task, List<Item> items, int batch) {
        return new MultipleChoice(new Bigram(512), Bigram::encode, batch).judge(task, items, _ -> {});
    }

    /** Σ log p of a text's last {@code n} characters. */
    private static double last(String text, int n) {
        int[] ids = encode(text);
        double sum = 0;
        for (int t = ids.length - n; t < ids.length; t++) sum += logp(ids[t - 1], ids[t]);
        return sum;
    }

    @Test
    void everyTaskIsWordedAsLmEvalWordsIt() throws IOException {
        String arc = "{\"question\":\"Why?\",\"choices\":[\"a b\",\"c\"],\"label\":1}";
        assertEquals(List.of(new Choice("Question: Why?\nAnswer:", " a b", 3), new Choice("Question: Why?\nAnswer:", " c", 1)), items(Task.ARC_EASY, arc).getFirst().choices());
        assertEquals(items(Task.ARC_EASY, arc), items(Task.ARC_CHALLENGE, arc));
        assertEquals(new Choice("Why?", " c", 1), items(Task.OPENBOOKQA, arc).getFirst().choices().get(1));
        assertEquals(1, items(Task.OPENBOOKQA, arc).getFirst().label());
        assertEquals(List.of(new Choice("Question: dry\nAnswer:", " sun ", 4), new Choice("Question: dry\nAnswer:", " rain", 4)),
                items(Task.PIQA, "{\"goal\":\"dry\",\"sol1\":\"sun \",\"sol2\":\"rain\",\"label\":0}").getFirst().choices());
        assertEquals(List.of(new Choice("So Ann", " always won.", 11), new Choice("So Eve", " always won.", 11)),
                items(Task.WINOGRANDE, "{\"sentence\":\"So _ always won. \",\"option1\":\"Ann\",\"option2\":\"Eve\",\"label\":0}").getFirst().choices());
        assertEquals(List.of(new Choice("one two", " three", 5)), items(Task.LAMBADA, "{\"text\":\"one two three\"}").getFirst().choices());
        assertEquals(new Choice("Run: he", " ran", 3), items(Task.HELLASWAG, "{\"ctx\":\"Run: he\",\"endings\":[\"ran\",\"sat\"],\"label\":0}").getFirst().choices().getFirst());
        assertEquals(new Choice("Cook: Boil. Water is hot. Then He stirs", "  it now", 7), items(Task.HELLASWAG,
                "{\"activity_label\":\"Cook\",\"ctx_a\":\"Boil [title] Water is  hot. Then\",\"ctx_b\":\"he Stirs\",\"endings\":[\"[step] it now\",\"x\"],\"label\":\"0\"}")
                .getFirst().choices().getFirst());
    }

    @Test
    void spacesAtTheContextsEndAreScoredWithTheChoice() {
        assertEquals(new Choice("ab", " \n c", 1), Choice.of("ab \n", "c"));
        assertEquals(new Choice("ab", " 𝄞", 1), Choice.of("ab", "𝄞"), "a character is a code point");
    }

    @Test
    void sumsAreThoseOfTheContinuationAlone() throws IOException {
        List<Item> items = items(Task.ARC_EASY, "{\"question\":\"who\",\"choices\":[\"a cat\",\"dog\",\"an elephant\"],\"label\":0}",
                "{\"question\":\"what is it that they want to eat\",\"choices\":[\"tea\",\"grass\"],\"label\":1}");
        Score s = judge(Task.ARC_EASY, items, 2);
        for (int i = 0; i < items.size(); i++) {
            int best = 0, bestNormed = 0;
            for (int c = 0; c < items.get(i).choices().size(); c++) {
                Choice choice = items.get(i).choices().get(c);
                assertEquals(last(choice.context() + choice.continuation(), choice.continuation().length()), s.sums().get(i)[c], 1e-5);
                if (s.sums().get(i)[c] > s.sums().get(i)[best]) best = c;
                if (s.sums().get(i)[c] / choice.characters() > s.sums().get(i)[bestNormed] / items.get(i).choices().get(bestNormed).characters()) bestNormed = c;
            }
            assertEquals(best == items.get(i).label(), s.right()[i]);
            assertEquals(bestNormed == items.get(i).label(), s.normed()[i]);
        }
        for (int batch : new int[] {1, 3, 64}) {
            Score other = judge(Task.ARC_EASY, items, batch);
            for (int i = 0; i < items.size(); i++) assertArrayEquals(s.sums().get(i), other.sums().get(i));
        }
    }

    /** Long choices lose the sum and may win per character: the two accuracies are different questions. */
    @Test
    void theNormedAccuracyDividesByCharacters() {
        List<Item> items = new ArrayList<>();
        items.add(new Item(List.of(Choice.of("x", "a"), Choice.of("x", "abcdefghijklmnopqrstuvwxyz")), 1, "made"));
        Score s = judge(Task.PIQA, items, 8);
        assertEquals(0, s.acc());
        double[] sums = s.sums().getFirst();
        assertEquals(sums[1] / 26 > sums[0] ? 1 : 0, s.accNorm());
        assertTrue(sums[1] / 26 > sums[0], "chosen so that the long one wins: " + sums[0] + ", " + sums[1] / 26);
    }

    @Test
    void whatIsLongerThanTheContextLosesItsBeginning() {
        Bigram small = new Bigram(8);
        List<Item> items = List.of(new Item(List.of(Choice.of("a very long context", "end"), Choice.of("ab", "c")), 0, "made"));
        Score s = new MultipleChoice(small, Bigram::encode, 4).judge(Task.PIQA, items, _ -> {});
        assertEquals(last("a very long context end", 4), s.sums().getFirst()[0], 1e-5);
        assertEquals(8, small.widest);
        // a continuation that alone is too long keeps as many tokens as the context has places
        List<Item> longer = List.of(new Item(List.of(Choice.of("ab", "a choice without end"), Choice.of("ab", "c")), 0, "made"));
        assertEquals(last("ab a choice without end", 8), new MultipleChoice(small, Bigram::encode, 4).judge(Task.PIQA, longer, _ -> {}).sums().getFirst()[0], 1e-5);
    }

    @Test
    void lambadaIsRightWhereTheModelWouldSayTheWord() throws IOException {
        String said = "";
        for (int at = favourite(27); said.length() < 3; at = favourite(at)) said += (char) ('a' + at - 1);
        String almost = said.substring(0, 2) + (said.endsWith("q") ? "r" : "q");
        assertEquals(27, favourite(encode("w")[1]));
        assertTrue(favourite(encode("t")[1]) != 27);
        List<Item> items = items(Task.LAMBADA, "{\"text\":\"nobody knows how " + said + "\"}", "{\"text\":\"how " + almost + "\"}", "{\"text\":\"cat " + said + "\"}");
        Score s = judge(Task.LAMBADA, items, 3);
        // the space before the word is scored too: likely after t, but not the likeliest
        assertArrayEquals(new boolean[] {true, false, false}, s.right());
        assertEquals(1 / 3.0, s.acc());
        double mean = (last("how " + said, 4) + last("how " + almost, 4) + last("cat " + said, 4)) / 3;
        assertEquals(Math.exp(-mean), s.targetPerplexity(), 1e-3 * Math.exp(-mean));
    }

    @Test
    void gzippedFilesAndAFewItemsAreRead() throws IOException {
        Path file = dir.resolve("items.jsonl.gz");
        try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(file))) {
            out.write("{\"text\":\"one two\"}\n\n{\"text\":\"three four\"}\n{\"text\":\"five six\"}\n".getBytes(UTF_8));
        }
        assertEquals(3, Task.LAMBADA.read(file, 0).size());
        List<Item> two = Task.LAMBADA.read(file, 2);
        assertEquals(2, two.size());
        assertEquals(file + ":3", two.get(1).origin());
    }

    @Test
    void aWrongFileIsASentenceWithItsLine() {
        refused(Task.PIQA, "items.jsonl:1: goal is missing, expected a text", "{\"question\":\"Why?\"}");
        refused(Task.ARC_EASY, "items.jsonl:2: label is 2, expected a whole number from 0 to 1", "{\"question\":\"a\",\"choices\":[\"b\",\"c\"],\"label\":0}",
                "{\"question\":\"a\",\"choices\":[\"b\",\"c\"],\"label\":2}");
        refused(Task.ARC_EASY, "choices is [1], expected a list of texts", "{\"question\":\"a\",\"choices\":[1],\"label\":0}");
        refused(Task.LAMBADA, "items.jsonl:1: not valid JSON", "{\"text\":");
        refused(Task.LAMBADA, "at least two words", "{\"text\":\"one\"}");
        refused(Task.WINOGRANDE, "a sentence with a gap", "{\"sentence\":\"none\",\"option1\":\"a\",\"option2\":\"b\",\"label\":0}");
        refused(Task.HELLASWAG, "holds no items", "");
        Fail missing = assertThrows(Fail.class, () -> Task.PIQA.read(dir.resolve("nowhere.jsonl"), 0));
        assertTrue(missing.getMessage().contains("nowhere.jsonl: no such file"), missing.getMessage());
        Fail nothing = assertThrows(Fail.class, () -> new MultipleChoice(new Bigram(64), _ -> new int[] {0, 1}, 4)
                .judge(Task.PIQA, List.of(new Item(List.of(Choice.of("a", "b")), 0, "made:7")), _ -> {}));
        assertTrue(nothing.getMessage().startsWith("made:7: choice 0 adds no token"), nothing.getMessage());
    }

    private void refused(Task task, String expected, String... lines) {
        Fail fail = assertThrows(Fail.class, () -> items(task, lines));
        assertEquals(Fail.DATA, fail.code());
        assertTrue(fail.getMessage().contains(expected), fail.getMessage());
    }
}
