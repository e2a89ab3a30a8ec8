package dev.qat.cli;

import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.ops.Backend;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.train.Backends;
import dev.qat.train.Fit;
import dev.qat.train.Plan;
import dev.qat.train.Planner;
import dev.qat.train.Recipe;
import dev.qat.train.Roofline;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Says what a recipe will need, before it does, and whether it fits. */
@Command(name = "plan", versionProvider = Main.Version.class, mixinStandardHelpOptions = true, description = {
    "Say what a recipe will need: memory by owner, disk, operations, hours; and whether it fits.",
    "Runs its steps on shapes alone; config.json is enough. Ends with 69 if it does not fit."})
final class PlanVerb implements Callable<Integer> {
    @Parameters(index = "0", paramLabel = "RECIPE", description = "A YAML file, such as examples/first-run.yaml.")
    private Path recipe;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "Overrides, as for train.")
    private List<String> overrides = List.of();

    @Option(names = "--json", description = "one JSON object")
    private boolean json;

    @Option(names = "--memory", paramLabel = "BYTES", description = "what the device has, such as 80GB or 24GiB (default: with backend cuda the device's, else this machine's)")
    private String memory;

    @Option(names = "--probe", description = "time a few steps of one random block of this model's shape on the backend, and take their speed for the hours")
    private boolean probe;

    /** All there is to say.  @param hours of every loop, by device */
    record Outcome(Plan plan, Fit fit, Optional<Savings.Found> savings, Map<String, Map<String, Double>> hours) {}

    @Override
    public Integer call() throws Exception {
        Recipe r = read(List.of());
        Plan plan = plan(r);
        Fit.Room room = room(r);
        Fit fit = Fit.of(plan, room);
        Optional<Savings.Found> savings = fit.fits() ? Optional.empty() : Savings.look(r, fit, words -> Fit.of(plan(read(words)), room));
        Map<String, Map<String, Double>> hours = new LinkedHashMap<>();
        for (Roofline.Card c : Roofline.Card.values()) hours.put(json ? c.name() : c.title, Roofline.hours(plan, c));
        if (probe) probe(r, plan, fit, hours);
        Outcome o = new Outcome(plan, fit, savings, hours);
        if (json) System.out.println(PlanReport.json(o));
        else PlanReport.print(o);
        return fit.fits() ? 0 : Fail.DEVICE;
    }

    private Recipe read(List<String> more) {
        List<String> all = new ArrayList<>(overrides);
        all.addAll(more);
        return RecipeReader.read(recipe, all, Recipe.class, Train.STAGES);
    }

    private static boolean cuda(Recipe r) {
        return r.backend().equals("cuda");
    }

    private static Plan plan(Recipe r) {
        return Planner.plan(r, cuda(r) && r.precision() == Precision.BF16 ? DType.BF16 : DType.F32, cuda(r) ? CudaBackend.HELD : 0);
    }

    private void probe(Recipe r, Plan plan, Fit fit, Map<String, Map<String, Double>> hours) {
        if (!fit.fits()) {
            System.err.println("not probed, as it does not fit");
            return;
        }
        int batch = (int) Math.max(1, plan.parts().stream().mapToLong(Plan.Part::tokens).max().orElse(1) / r.data().length());
        try (Backend b = Backends.open(r, System.err::println)) {
            Roofline.Speed v = Planner.probe(r, b, batch);
            hours.put(json ? "probed" : v.title(), Roofline.hours(plan, v));
            System.err.printf("probed: products %s FLOP/s, attention %s FLOP/s, memory %s B/s, to the device %s B/s%n",
                    Format.count(v.products()), Format.count(v.attention()), Format.count(v.memory()), Format.count(v.bus()));
        }
    }

    /** What there is to fit into. */
    private Fit.Room room(Recipe r) {
        long host = Machine.memoryLimit(), device = memory != null ? bytes(memory) : cuda(r) ? device(r) : host;
        return new Fit.Room(device, host, Machine.free(r.output()), !cuda(r));
    }

    /** The memory of the device that would be trained on; 0 where none answers. */
    private static long device(Recipe r) {
        try (Backend b = Backends.open(r, _ -> { })) {
            return b instanceof CudaBackend c ? c.device().properties().totalBytes() : 0;
        } catch (Fail noDevice) {
            if (noDevice.code() != Fail.DEVICE) throw noDevice;
            return 0;
        }
    }

    /** {@code 80GB}, {@code 24GiB}, {@code 512MiB}. */
    static long bytes(String text) {
        Matcher m = Pattern.compile("(\\d+(?:\\.\\d+)?) *([KMGT])(i?)B").matcher(text);
        if (!m.matches()) throw Fail.usage("--memory %s: expected a number and a unit, as in 80GB or 24GiB", text);
        double unit = Math.pow(m.group(3).isEmpty() ? 1000 : 1024, "KMGT".indexOf(m.group(2)) + 1);
        return (long) (Double.parseDouble(m.group(1)) * unit);
    }

    /** The parts of every loop. */
    static Map<String, List<Plan.Part>> loops(Plan plan) {
        return plan.parts().stream().collect(Collectors.groupingBy(Plan.Part::stage, LinkedHashMap::new, Collectors.toList()));
    }
}
