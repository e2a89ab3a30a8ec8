package dev.qat.cli;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

class RecipeReaderTest {
    enum Order { FILE_ORDER, SHUFFLED }

    record Data(List<Path> files, int length, Order order) {
        static final Data DEFAULTS = new Data(null, 512, Order.SHUFFLED);
    }

    record Train(double learningRate, float clip, long maxTokens, boolean resume) {
        static final Train DEFAULTS = new Train(1e-5, 1f, 1L << 40, false);

        Train {
            if (!(learningRate > 0)) throw Fail.usage("learning-rate = %s, expected more than 0", learningRate);
        }
    }

    interface Stage {}

    record BlockAp(int epochs, int bits) implements Stage {
        static final BlockAp DEFAULTS = new BlockAp(2, 4);

        BlockAp {
            if (bits < 2 || bits > 8) throw Fail.usage("bits = %d, expected 2..8", bits);
        }
    }

    record Teq(List<Integer> groups) implements Stage {
        static final Teq DEFAULTS = new Teq(List.of());
    }

    record Export() implements Stage {}

    record Recipe(String name, Data data, Train train, List<Stage> stages) {}

    static final Variants STAGES =
            new Variants(Stage.class, "method", Map.of("block-ap", BlockAp.class, "teq", Teq.class, "export", Export.class));

    static final String GOOD = """
            # a recipe
            name: tiny
            data:
              files: [a.txt, b.txt]
              order: file-order
            train:
              learning-rate: 3e-4
            stages:
              - method: teq
                groups: [1, 2]
              - method: block-ap
                epochs: 5
              - method: export
            """;

    @TempDir
    Path dir;

    Recipe read(String yaml, String... overrides) {
        return RecipeReader.read(file(yaml), List.of(overrides), Recipe.class, STAGES);
    }

    Path file(String yaml) {
        try {
            return Files.writeString(dir.resolve("r.yaml"), yaml);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    /** The message of the one refusal, with the test's folder taken out. */
    String refusal(String yaml, String... overrides) {
        Fail fail = assertThrows(Fail.class, () -> read(yaml, overrides));
        assertEquals(Fail.USAGE, fail.code());
        return fail.getMessage().replace(dir + "/", "");
    }

    @Test
    void readsRecordsListsVariantsAndDefaults() {
        Recipe expected = new Recipe("tiny", new Data(List.of(Path.of("a.txt"), Path.of("b.txt")), 512, Order.FILE_ORDER),
                new Train(3e-4, 1f, 1L << 40, false), List.of(new Teq(List.of(1, 2)), new BlockAp(5, 4), new Export()));
        assertEquals(expected, read(GOOD));
    }

    @Test
    void overridesBeatTheFile() {
        Recipe recipe = read(GOOD, "stages.block-ap.epochs=3", "stages.1.bits=3", "data.length=128", "data.files=x.txt, y.txt",
                "train={learning-rate: 1, resume: true}", "train.max-tokens=1e9", "name=a=b", "stages.0.groups=[]", "name=last");
        assertEquals(new BlockAp(3, 3), recipe.stages().get(1));
        assertEquals(new Data(List.of(Path.of("x.txt"), Path.of("y.txt")), 128, Order.FILE_ORDER), recipe.data());
        assertEquals(new Train(1, 1f, 1_000_000_000, true), recipe.train());
        assertEquals(new Teq(List.of()), recipe.stages().getFirst());
        assertEquals("last", recipe.name());
    }

    @Test
    void overridesTakeYamlOrPlainText() {
        assertEquals("it's: [fine] #1", read(GOOD, "name=it's: [fine] #1").name());
        assertEquals("[x]", read(GOOD, "name='[x]'").name());
        assertEquals(List.of(Path.of("a,b.txt")), read(GOOD, "data.files=[\"a,b.txt\"]").data().files());
        assertEquals(List.of(Path.of("one.txt")), read(GOOD, "data.files=one.txt").data().files());
        assertEquals(List.of(), read(GOOD, "data.files=").data().files());
        assertEquals(new Export(), read(GOOD, "stages.0={method: export}").stages().getFirst());
        assertEquals(1, read(GOOD, "stages=[{method: block-ap}]").stages().size());
        assertEquals(Path.of(System.getProperty("user.home"), "t.txt"), read(GOOD, "data.files=~/t.txt").data().files().getFirst());
    }

    @Test
    void overridesMakeTheMapsTheyNeed() {
        Recipe recipe = read("name: x\nstages: []\n", "data.files=a", "train.clip=0.5");
        assertEquals(new Data(List.of(Path.of("a")), 512, Order.SHUFFLED), recipe.data());
        assertEquals(0.5f, recipe.train().clip());
        assertEquals(new Train(1e-5, 1f, 1L << 40, true), read(GOOD.replace("  learning-rate: 3e-4\n", ""), "train.resume=true").train());
    }

    @Test
    void everyMistakeIsReportedAtOnce() {
        String yaml = """
                nam: tiny
                data:
                  files: a.txt
                  length: long
                  order: shufled
                train:
                  learning-rate: 0
                  clip: true
                  learningRate: 1
                stages:
                  - method: blockap
                  - method: block-ap
                    bits: 9
                  - epochs: 3
                  - teq
                  - method: export
                    to: x
                """;
        assertEquals("""
                14 mistakes in r.yaml:
                  override 'oops': has no '=', expected key=value, as in train.epochs=3
                  r.yaml:1:1: name: missing, expected text
                  r.yaml:3:10: data.files: got 'a.txt', expected a list, as in [a, b]
                  r.yaml:4:11: data.length: got 'long', expected a whole number up to 2147483647
                  r.yaml:5:10: data.order: got 'shufled', expected one of file-order, shuffled; did you mean 'shuffled'?
                  r.yaml:8:9: train.clip: got 'true', expected a number
                  override 'train.resume=maybe': train.resume: got 'maybe', expected true or false
                  r.yaml:9:3: train.learningRate: no such key; did you mean 'learning-rate'? Known here: clip, learning-rate, max-tokens, resume
                  r.yaml:11:13: stages.0.method: got 'blockap', expected one of block-ap, export, teq; did you mean 'block-ap'?
                  r.yaml:13:5: stages.1: bits = 9, expected 2..8
                  r.yaml:14:5: stages.2: has no 'method', expected one of block-ap, export, teq
                  r.yaml:15:5: stages.3: got 'teq', expected a map
                  r.yaml:17:5: stages.4.to: no such key. Known here: method
                  r.yaml:1:1: nam: no such key; did you mean 'name'? Known here: data, name, stages, train""",
                refusal(yaml, "oops", "train.resume=maybe"));
    }

    @Test
    void aRefusedValueIsBlamedOnTheLineOrOverrideItCameFrom() {
        assertEquals("r.yaml:7:3: train: learning-rate = 0.0, expected more than 0", refusal(GOOD.replace("3e-4", "0")));
        assertEquals("override 'stages.1.bits=1': stages.1: bits = 1, expected 2..8", refusal(GOOD, "stages.1.bits=1"));
    }

    @Test
    void missingKeysAreNamedThroughMapsThatAreLeftOut() {
        assertEquals("""
                3 mistakes in r.yaml:
                  r.yaml:1:1: name: missing, expected text
                  r.yaml:1:1: data.files: missing, expected a list
                  r.yaml:1:1: stages: missing, expected a list""", refusal("train: {clip: 2}\n"));
    }

    record Outer(Data data, Train train) {
        static final Outer DEFAULTS = new Outer(Data.DEFAULTS, new Train(7, 7f, 7, true));
    }

    @Test
    void aParentsDefaultsComeBeforeARecordsOwnAndMayStillDemandAKey() {
        Fail fail = assertThrows(Fail.class, () -> RecipeReader.read(file("{}"), List.of(), Outer.class));
        assertTrue(fail.getMessage().endsWith("r.yaml:1:1: data.files: missing, expected a list"), fail.getMessage());
        Outer outer = RecipeReader.read(file("train: {clip: 3}"), List.of("data.files=a"), Outer.class);
        assertEquals(new Outer(new Data(List.of(Path.of("a")), 512, Order.SHUFFLED), new Train(7, 3f, 7, true)), outer);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "stages.lsq.bits=3  | stages has no element 'lsq'; it has 0 (teq), 1 (block-ap), 2 (export)",
        "stages.7.bits=3    | stages has no element '7'; it has 0 (teq), 1 (block-ap), 2 (export)",
        "name.x=3           | name is the single value 'tiny', so it has no 'x'",
        "dta.length=3       | dta: no such key; did you mean 'data'? Known here: data, name, stages, train",
        "data..length=3     | has an empty key, expected key=value, as in train.epochs=3",
        "=3                 | has an empty key, expected key=value, as in train.epochs=3",
        "data.length=       | data.length: got '', expected a whole number up to 2147483647",
        "data.length=3000000000 | data.length: got '3000000000', expected a whole number up to 2147483647",
        "data.length=1.5    | data.length: got '1.5', expected a whole number up to 2147483647",
        "data.length=[1]    | data.length: got a list, expected a whole number up to 2147483647",
        "train.clip=NaN     | train.clip: got 'NaN', expected a number",
        "train.clip=1e40    | train.clip: got '1e40', expected a number",
        "data.files={a: b}  | data.files: got a map, expected a list, as in [a, b]",
        "data.files=[a.txt  | not valid YAML: expected ',' or ']', but got <stream end>",
        "stages.0.groups=1,x | stages.0.groups.1: got 'x', expected a whole number up to 2147483647",
    })
    void mistakenOverridesAreNamed(String override, String message) {
        assertEquals("override '" + override + "': " + message, refusal(GOOD, override));
    }

    @Test
    void aNameSharedByTwoStagesMeansNeither() {
        String yaml = GOOD + "  - method: teq\n";
        assertTrue(refusal(yaml, "stages.teq.groups=1").endsWith("no element 'teq'; it has 0 (teq), 1 (block-ap), 2 (export), 3 (teq)"));
        assertEquals(new Teq(List.of(1)), read(yaml, "stages.3.groups=1").stages().get(3));
    }

    @Test
    void yamlThatARecipeDoesNotUseIsRefused() {
        assertEquals("r.yaml:14:1: 'name' is here a second time, first at r.yaml:2:1", refusal(GOOD + "name: again\n"));
        assertEquals("r.yaml:15:1: a second document starts, expected one per file", refusal(GOOD + "---\nname: two\n"));
        assertEquals("r.yaml:2:7: *x is an alias, which recipes do not use; write the value out",
                refusal(GOOD.replace("# a recipe", "---").replace("tiny", "*x")).lines().findFirst().orElseThrow());
        assertEquals("r.yaml:2:7: name: has no value; give it one, or take the line out",
                refusal(GOOD.replace("tiny", "~")));
        assertEquals("r.yaml:2:1: not valid YAML: found character '\\t(TAB)' that cannot start any token."
                + " (Do not use \\t(TAB) for indentation)", refusal("data:\n\tfiles: x\n"));
        assertTrue(refusal("- a\n- b\n").startsWith("r.yaml:1:1: got a list, expected a map with the keys "));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "# only a comment\n", "---\n", "~\n"})
    void anEmptyRecipeIsOneSentence(String yaml) {
        String message = refusal(yaml);
        assertTrue(message.matches("r.yaml(:\\d+:\\d+)?: is empty, expected a recipe with the keys \\[?data, name, stages, train]?"), message);
    }

    @Test
    void filesThatCannotBeReadAreOneSentence() throws IOException {
        Files.writeString(dir.resolve("lsq-w4.yaml"), GOOD);
        Fail missing = assertThrows(Fail.class, () -> RecipeReader.read(dir.resolve("lsq-w5.yaml"), List.of(), Recipe.class, STAGES));
        assertEquals("no recipe %1$s/lsq-w5.yaml; did you mean '%1$s/lsq-w4.yaml'?".formatted(dir), missing.getMessage());
        Fail folder = assertThrows(Fail.class, () -> RecipeReader.read(dir, List.of(), Recipe.class, STAGES));
        assertEquals(dir + " is a folder, expected a recipe, a YAML file", folder.getMessage());
        Path latin = Files.write(dir.resolve("latin.yaml"), "name: \u00e9".getBytes(StandardCharsets.ISO_8859_1));
        Fail text = assertThrows(Fail.class, () -> RecipeReader.read(latin, List.of(), Recipe.class, STAGES));
        assertEquals(latin + " is not UTF-8 text, expected a recipe, a YAML file", text.getMessage());
    }

    @Test
    void renderedRecipesReadBackEqual() {
        Recipe recipe = read(GOOD);
        String text = RecipeReader.render(recipe, STAGES);
        assertEquals("""
                name: tiny
                data:
                  files:
                    - a.txt
                    - b.txt
                  length: 512
                  order: file-order
                train:
                  learning-rate: 3.0E-4
                  clip: 1.0
                  max-tokens: 1099511627776
                  resume: false
                stages:
                  - method: teq
                    groups:
                      - 1
                      - 2
                  - method: block-ap
                    epochs: 5
                    bits: 4
                  - method: export
                """, text);
        assertEquals(recipe, read(text));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", " ", "~", "null", "true", "1e3", "0x1F", "a: b", "# x", "- x", "[x]", "{x", "*x", "&x", "!x", "%x", "@x",
        "`x", "'x", "\"x", "x\ny", "x\n", "\tx", "tr\u00e4in \u2014 \ud83d\ude00", "back\\slash", "|", ">", "?", "1:30", "=", "<<", "\u0007", "x #y"})
    void anyTextSurvivesTheRoundTrip(String name) {
        Recipe recipe = new Recipe(name, new Data(List.of(), 1, Order.SHUFFLED), Train.DEFAULTS, List.of());
        assertEquals(recipe, read(RecipeReader.render(recipe, STAGES)));
    }

    @ParameterizedTest
    @ValueSource(doubles = {Double.MIN_VALUE, Double.MAX_VALUE, 0.1, 1e-5, 123456789.123456789})
    void anyNumberSurvivesTheRoundTrip(double rate) {
        Recipe recipe = new Recipe("x", new Data(List.of(), 1, Order.SHUFFLED),
                new Train(rate, (float) Math.min(rate, 1e30), Long.MIN_VALUE, true), List.of());
        assertEquals(recipe, read(RecipeReader.render(recipe, STAGES)));
    }

    @Test
    void variantsThatCouldNotBeWrittenBackAreRefused() {
        assertThrows(Fail.class, () -> new Variants(Stage.class, "method", Map.of("a", Teq.class, "b", Teq.class)));
        assertThrows(Fail.class, () -> new Variants(Stage.class, "method", Map.of("a", Data.class)));
        assertThrows(Fail.class, () -> new Variants(Stage.class, "epochs", Map.of("a", BlockAp.class)));
    }

    @Test
    void theNearestWordIsNearEnough() {
        assertEquals(3, Nearest.distance("kitten", "sitting"));
        assertEquals("; did you mean 'epochs'?", Nearest.hint("epoch", List.of("bits", "epochs")));
        assertEquals("", Nearest.hint("lr", List.of("bits", "epochs", "ab")));
    }
}
