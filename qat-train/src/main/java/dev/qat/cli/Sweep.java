package dev.qat.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.data.AtomicFile;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import org.apache.commons.math3.stat.descriptive.SummaryStatistics;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/**
 * Runs one recipe in many variants and lays the results out as a table: a row and a column for every variant, mean ± standard deviation over
 * seeds. One key may be tuned for every cell by itself: with the first seed, over values in order, from the middle one as long as it gets better.
 */
@Command(name = "sweep", versionProvider = Main.Version.class, mixinStandardHelpOptions = true, description = {
    "Run a recipe in variants, rows by columns by seeds, and print one table. Run it again to go on: what is finished is not run twice."})
final class Sweep implements Callable<Integer> {
    /**
     * @param recipe the recipe to vary, beside this file  @param seeds of every cell
     * @param start  the stage shown before the columns, such as rtn, or what stands in brackets behind its name; empty for none
     */
    record Plan(String name, Path recipe, String start, Path output, List<Long> seeds, Tune tune, List<Variant> rows, List<Variant> columns) {
        static final Plan DEFAULTS = new Plan(null, null, "", Path.of("runs"), List.of(1L), Tune.DEFAULTS, null, null);

        Plan {
            if (seeds.isEmpty() || rows != null && rows.isEmpty() || columns != null && columns.isEmpty()) throw Fail.usage("seeds, rows and columns need at least one element each");
        }

        Path directory() {
            return output.resolve(name);
        }
    }

    /** @param key of the recipe, such as stages.0.rate; empty for none  @param values in order, to climb along */
    record Tune(String key, List<String> values) {
        static final Tune DEFAULTS = new Tune("", List.of());

        Tune {
            if (key.isEmpty() != values.isEmpty()) throw Fail.usage("key and values belong together: key names what is tuned, values are tried");
        }
    }

    /**
     * @param set   overrides of the recipe, such as stages.llm-qat.bits=4-8-4, or all of its stages: 'stages=[{method: rtn, bits: 3}]'
     * @param lines of a row: what each stage that is judged is called in a line of its own, so that methods share what comes before them;
     *              an empty name leaves a stage out, an empty list takes the last stage alone
     */
    record Variant(String name, List<String> set, List<String> lines) {
        static final Variant DEFAULTS = new Variant(null, List.of(), List.of());
    }

    /** What one stage came to, over the seeds: perplexity, KL, percent of ternary weights at zero before and after, of the former those that stayed; and the tuned value, or null. */
    private record Cell(SummaryStatistics perplexity, SummaryStatistics kl, SummaryStatistics before, SummaryStatistics after, SummaryStatistics stayed, String tuned) {
        Cell(String tuned) {
            this(new SummaryStatistics(), new SummaryStatistics(), new SummaryStatistics(), new SummaryStatistics(), new SummaryStatistics(), tuned);
        }

        void add(JsonNode stage) {
            perplexity.addValue(stage.get("perplexity").asDouble());
            kl.addValue(stage.get("kl").asDouble());
            JsonNode notes = stage.path("notes");
            if (!notes.has("dead_end")) return;
            before.addValue(100 * notes.get("dead_start").asDouble());
            after.addValue(100 * notes.get("dead_end").asDouble());
            if (notes.has("dead_stayed")) stayed.addValue(100 * notes.get("dead_stayed").asDouble());
        }

        String text() {
            String spread = perplexity.getN() > 1 && perplexity.getStandardDeviation() > 0 ? " ± " + number(perplexity.getStandardDeviation()) : "", dead = "";
            if (after.getN() > 0) dead = String.format(Locale.ROOT, before.getMean() == after.getMean() ? ", %2$.1f %% dead" : ", %.1f → %.1f %% dead", before.getMean(), after.getMean());
            if (stayed.getN() > 0) dead += String.format(Locale.ROOT, ", %.0f %% stayed", stayed.getMean());
            return number(perplexity.getMean()) + spread + " (" + number(kl.getMean()) + ")" + dead + (tuned == null ? "" : ", at " + tuned);
        }

        static String number(double v) {
            return String.format(Locale.ROOT, v < 1000 ? "%.3f" : "%.0f", v);
        }
    }

    private static final ObjectMapper JSON = new ObjectMapper();

    @ParentCommand
    private Main main;

    @Parameters(index = "0", paramLabel = "SWEEP", description = "A YAML file, such as examples/sweeps/llm-qat.yaml.")
    private Path file;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "Overrides of the sweep, such as seeds=[1] or output=DIR; recipe.KEY=VALUE overrides its recipe everywhere.")
    private List<String> words = List.of();

    /** The perplexities of the model that all runs begin with: the text may follow the seed. */
    private final SummaryStatistics full = new SummaryStatistics();

    @Override
    public Integer call() {
        List<String> own = words.stream().filter(w -> !w.startsWith("recipe.")).toList(), everywhere = words.stream().filter(w -> w.startsWith("recipe.")).map(w -> w.substring("recipe.".length())).toList();
        Plan plan = RecipeReader.read(file, own, Plan.class);
        String table = table(plan, everywhere);
        System.out.println();
        System.out.print(table);
        AtomicFile.write(plan.directory().resolve("table.md"), table);
        return 0;
    }

    /**
     * GitHub's markup; a cell is the mean perplexity ± its standard deviation, in brackets the mean KL from full precision; for ternary weights the
     * share at zero before and after training, and how many of the former stayed there; and the tuned value.
     */
    private String table(Plan plan, List<String> everywhere) {
        StringBuilder lines = new StringBuilder();
        for (Variant row : plan.rows) lines.append(rows(plan, row, everywhere));
        StringBuilder out = new StringBuilder("| " + plan.name + (full.getN() == 0 ? "" : ", from " + Cell.number(full.getMean())));
        if (!plan.start.isEmpty()) out.append(" | ").append(plan.start);
        for (Variant c : plan.columns) out.append(" | ").append(c.name);
        out.append(" |\n|---|").append("---:|".repeat(plan.columns.size() + (plan.start.isEmpty() ? 0 : 1))).append('\n');
        return out.append(lines).toString();
    }

    /** The lines of one row: what each of its stages, or the last, came to in every column. */
    private String rows(Plan plan, Variant row, List<String> everywhere) {
        List<String> names = row.lines.isEmpty() ? List.of(row.name) : row.lines;
        List<StringBuilder> lines = names.stream().map(n -> new StringBuilder("| " + n)).toList();
        Cell start = new Cell(null);
        List<List<Cell>> all = plan.columns.stream().map(c -> cells(plan, row, c, start, everywhere)).toList();
        if (!plan.start.isEmpty() && start.perplexity.getN() == 0) throw Fail.usage("%s: start = %s, but no stage of %s has that name", file, plan.start, plan.recipe);
        for (int i = 0; i < names.size(); i++) {
            if (!plan.start.isEmpty()) lines.get(i).append(" | ").append(start.text());
            for (List<Cell> cells : all) lines.get(i).append(" | ").append(cells.get(i).text());
        }
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < names.size(); i++) if (!names.get(i).isEmpty()) out.append(lines.get(i)).append(" |\n");
        return out.toString();
    }

    /** A cell for each line of a row in one column, over the seeds. */
    private List<Cell> cells(Plan plan, Variant row, Variant column, Cell start, List<String> everywhere) {
        int count = Math.max(1, row.lines.size());
        String tuned = tune(plan, row, column, everywhere);
        List<Cell> cells = Stream.generate(() -> new Cell(tuned)).limit(count).toList();
        for (long seed : plan.seeds) {
            List<JsonNode> stages = new ArrayList<>();
            for (JsonNode s : run(plan, row, column, tuned, seed, everywhere)) {
                String name = s.path("name").asText();
                if (!plan.start.isEmpty() && (name.equals(plan.start) || name.endsWith("(" + plan.start + ")"))) start.add(s);
                if (name.equals("fp")) full.addValue(s.path("perplexity").asDouble());
                else stages.add(s);
            }
            if (!row.lines.isEmpty() && stages.size() != count) {
                throw Fail.usage("%s: row %s has %d lines, but %d stages of its runs are judged. Name every one of them, \"\" for one to leave out.", file, row.name, count, stages.size());
            }
            for (int i = 0; i < count; i++) cells.get(i).add(stages.get(stages.size() - count + i));
        }
        return cells;
    }

    /** The value of the lowest perplexity, going from the middle one upwards or, where that is no better, downwards; null where none is tuned. */
    private String tune(Plan plan, Variant row, Variant column, List<String> everywhere) {
        List<String> values = plan.tune.values;
        if (values.isEmpty()) return null;
        int middle = values.size() / 2, best = middle;
        double least = perplexity(plan, row, column, values.get(middle), everywhere);
        for (int way = 1; way >= -1 && best == middle; way -= 2) {
            for (int i = middle + way; i >= 0 && i < values.size(); i += way) {
                double p = perplexity(plan, row, column, values.get(i), everywhere);
                if (p >= least) break;
                least = p;
                best = i;
            }
        }
        return values.get(best);
    }

    private double perplexity(Plan plan, Variant row, Variant column, String value, List<String> everywhere) {
        JsonNode stages = run(plan, row, column, value, plan.seeds.getFirst(), everywhere);
        return stages.get(stages.size() - 1).path("perplexity").asDouble();
    }

    /** The stages of one variant: from its directory where it was run before with the same recipe, else by running it. */
    private JsonNode run(Plan plan, Variant row, Variant column, String tuned, long seed, List<String> everywhere) {
        List<String> set = new ArrayList<>(row.set);
        set.addAll(column.set);
        if (tuned != null) set.add(plan.tune.key + "=" + tuned);
        set.addAll(everywhere);
        String name = "%s-%s%s-%d".formatted(row.name, column.name, tuned == null ? "" : "-" + tuned, seed);
        set.addAll(List.of("name=" + name.replaceAll("[^\\w.=-]", "-"), "output=" + plan.directory(), "seed=" + seed));
        Path recipe = plan.recipe.isAbsolute() || Files.exists(plan.recipe) ? plan.recipe : file.toAbsolutePath().resolveSibling(plan.recipe);
        Recipe r = RecipeReader.read(recipe, set, Recipe.class, Train.STAGES);
        String rendered = RecipeReader.render(r, Train.STAGES);
        Path result = r.directory().resolve("result.json"), made = r.directory().resolve("recipe.yaml");
        try {
            if (!Files.exists(result) || !Files.exists(made) || !Files.readString(made).equals(rendered)) {
                System.err.printf("%s, %s%s, seed %d%n", row.name, column.name, tuned == null ? "" : ", " + plan.tune.key + " = " + tuned, seed);
                try (Backend backend = Backends.open(r, System.err::println)) {
                    Runner.run(r, rendered, Train.versions(backend), backend, new Screen(), main.stop().heed());
                }
            }
            return JSON.readTree(result.toFile()).path("stages");
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s. Remove the folder and run the sweep again.", result, e.getMessage());
        }
    }
}
