package dev.qat.cli;

import dev.qat.data.GeneratedSet.Part;
import dev.qat.eval.TextQuality;
import dev.qat.ops.Backend;
import dev.qat.train.Backends;
import dev.qat.train.Generate;
import dev.qat.train.GenerateRecipe;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Lets a model speak, into token shards to train on. */
@Command(name = "generate", versionProvider = Main.Version.class, mixinStandardHelpOptions = true, description = {
    "Generate training text with the model itself, as token shards with a manifest. Run it again to go on where it was interrupted."})
final class GenerateVerb implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Parameters(index = "0", paramLabel = "RECIPE", description = "A YAML file, such as examples/generate.yaml.")
    private Path recipe;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "Overrides, such as generate.sequences=1000 or model.path=DIR.")
    private List<String> overrides = List.of();

    @Option(names = "--part", defaultValue = "0/1", paramLabel = "I/N", description = "make only every N-th shard, from the I-th on, so that N machines share the work (default: all)")
    private String part;

    @Override
    public Integer call() {
        Part which = Part.parse(part);
        GenerateRecipe r = RecipeReader.read(recipe, overrides, GenerateRecipe.class);
        System.out.println("# " + recipe + ", resolved");
        System.out.println(RecipeReader.render(r));
        try (Backend backend = Backends.open(r.backend(), r.threads())) {
            print(Generate.run(r, which, backend, new Screen(), main.stop().heed()));
        }
        return 0;
    }

    private static void print(Generate.Result result) {
        System.out.println();
        if (result.made() > 0) {
            System.out.printf(Locale.ROOT, "%,d tokens in %s, %s tokens/s%n", result.made(), Format.duration(result.seconds()), Format.count(result.made() / result.seconds()));
        }
        System.out.printf("%,d of %,d sequences kept, in %s%n", result.kept(), result.sequences(), result.directory());
        if (result.quality() != null) System.out.print(text(result.quality()));
    }

    private static String text(TextQuality q) {
        Table t = new Table(Table.text("quality"), Table.number("value"));
        t.row("tokens", Format.count(q.tokens()));
        t.row("length: least, quartiles, most", "%d, %d, %d, %d, %d".formatted(q.lengths()[0], q.lengths()[1], q.lengths()[2], q.lengths()[3], q.lengths()[4]));
        t.row("full length", Format.percent(q.full()));
        t.row("repeated 4-grams", Format.fixed(100 * q.repetition(), 1) + "%");
        t.row("distinct 1-, 2-, 3-grams", Format.fixed(q.distinct()[0], 4) + ", " + Format.fixed(q.distinct()[1], 4) + ", " + Format.fixed(q.distinct()[2], 4));
        t.row("first tokens, share of vocabulary", Format.fixed(100 * q.coverage(), 1) + "%");
        t.row("nats/token under the model", Format.fixed(q.nats(), 4));
        if (q.likeness() != null) {
            t.row("nats/token of the text compared with", Format.fixed(q.likeness().nats(), 4));
            t.row("Kolmogorov-Smirnov distance, p", Format.fixed(q.likeness().distance(), 4) + ", " + Format.scientific(q.likeness().p()));
        }
        return t.render();
    }
}
