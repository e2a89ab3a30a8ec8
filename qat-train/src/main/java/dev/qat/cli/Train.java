package dev.qat.cli;

import dev.qat.cpu.CpuBackend;
import dev.qat.method.Methods;
import dev.qat.ops.Backend;
import dev.qat.train.Backends;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Stage;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Runs a recipe. */
@Command(name = "train", versionProvider = Main.Version.class, description = "Run a recipe: train, quantize, judge, write.", mixinStandardHelpOptions = true)
final class Train implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Parameters(index = "0", paramLabel = "RECIPE", description = "A YAML file, such as examples/first-run.yaml.")
    private Path recipe;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "Overrides, such as stages.block-ap.epochs=3 or data.files=[mine.txt].")
    private List<String> overrides = List.of();

    static final Variants STAGES = new Variants(Stage.class, "method", Methods.all());

    @Override
    public Integer call() {
        Recipe r = RecipeReader.read(recipe, overrides, Recipe.class, STAGES);
        String rendered = RecipeReader.render(r, STAGES);
        System.out.println("# " + recipe + ", resolved");
        System.out.println(rendered);
        try (Backend backend = Backends.open(r, System.err::println)) {
            Runner.Result result = Runner.run(r, rendered, versions(backend), backend, new Screen(), main.stop().heed());
            print(result);
        }
        return 0;
    }

    static Map<String, String> versions(Backend backend) {
        Map<String, String> v = new LinkedHashMap<>();
        v.put("qat", Main.version());
        v.put("java", System.getProperty("java.vm.version"));
        v.put("backend", backend.name());
        v.put("products", backend.name().equals("cuda") ? "cuBLAS" : CpuBackend.blas());
        return v;
    }

    private static void print(Runner.Result result) {
        Table table = new Table(Table.text("stage"), Table.number("perplexity"), Table.number("KL to fp"), Table.number("top-1"),
                Table.number("bits/weight"), Table.number("seconds"));
        for (Row row : result.rows()) {
            table.row(row.name(), String.format(Locale.ROOT, "%.3f", row.perplexity()), String.format(Locale.ROOT, "%.4f", row.kl()),
                    String.format(Locale.ROOT, "%.1f%%", 100 * row.top1()), String.format(Locale.ROOT, "%.2f", row.bitsPerWeight()),
                    String.format(Locale.ROOT, "%.1f", row.seconds()));
        }
        System.out.println();
        table.print(System.out);
        System.out.println("Held out: " + result.heldOut());
        result.deployment().ifPresent(Export::print);
        System.out.printf(Locale.ROOT, "%s in all. Model, codes, metrics and result: %s%n", Format.duration(result.seconds()), result.directory());
    }
}
