package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.tensor.DType;
import dev.qat.train.Plan;
import dev.qat.train.Planner;
import dev.qat.train.Recipe;
import dev.qat.train.Roofline;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Says what a recipe will need, before it does. */
@Command(name = "plan", versionProvider = Main.Version.class, mixinStandardHelpOptions = true,
        description = "Say what a recipe will need: memory by owner, operations and bytes. Runs its steps on shapes alone; config.json is enough.")
final class PlanVerb implements Callable<Integer> {
    @Parameters(index = "0", paramLabel = "RECIPE", description = "A YAML file, such as examples/first-run.yaml.")
    private Path recipe;

    @Parameters(index = "1..*", paramLabel = "KEY=VALUE", description = "Overrides, as for train.")
    private List<String> overrides = List.of();

    @Option(names = "--json", description = "one JSON object")
    private boolean json;

    @Override
    public Integer call() throws Exception {
        Recipe r = RecipeReader.read(recipe, overrides, Recipe.class, Train.STAGES);
        boolean cuda = r.backend().equals("cuda");
        Plan plan = Planner.plan(r, cuda && r.precision() == Precision.BF16 ? DType.BF16 : DType.F32, cuda ? CudaBackend.HELD : 0);
        if (json) printJson(plan);
        else print(plan);
        return 0;
    }

    private static void print(Plan plan) {
        System.out.printf("%s parameters%n%nMemory at its peak, by owner%n", Format.count(plan.parameters()));
        Table memory = new Table(Table.text("owner"), Table.number("bytes"));
        plan.owners().forEach((owner, bytes) -> memory.row(owner, Format.bytes(bytes)));
        memory.row("all of it", Format.bytes(plan.peakBytes()));
        plan.host().forEach((owner, bytes) -> memory.row(owner + " (host)", Format.bytes(bytes)));
        memory.print(System.out);
        System.out.printf("%nWork%n");
        Table work = new Table(Table.text("loop"), Table.number("steps"), Table.number("FLOP/step"), Table.number("bytes/step"), Table.number("step memory"), Table.number("FLOP"));
        var loops = new java.util.LinkedHashMap<String, List<Plan.Part>>();
        for (Plan.Part p : plan.parts()) loops.computeIfAbsent(p.stage(), _ -> new java.util.ArrayList<>()).add(p);
        loops.forEach((stage, parts) -> {
            Plan.Part p = parts.getLast();
            work.row(stage, parts.stream().mapToLong(Plan.Part::steps).sum(), Format.count(p.cost().flop()), Format.count(p.cost().bytes()),
                    Format.bytes(p.cost().arenaBytes()), Format.count(parts.stream().mapToDouble(Plan.Part::flop).sum()));
        });
        work.print(System.out);
        System.out.printf("%nHours on a device (%s)%n", Roofline.assumed());
        Table hours = new Table(Stream.concat(Stream.of(Table.text("loop")), Stream.of(Roofline.Card.values()).map(c -> Table.number(c.title))).toArray(Table.Column[]::new));
        for (String stage : loops.keySet()) {
            hours.row(Stream.concat(Stream.of(stage), Stream.of(Roofline.Card.values()).map(c -> "%.2f".formatted(Roofline.hours(plan, c).get(stage)))).toArray());
        }
        hours.print(System.out);
    }

    private static void printJson(Plan plan) {
        ObjectMapper mapper = new ObjectMapper();
        ObjectNode out = mapper.createObjectNode().put("parameters", plan.parameters()).put("peak_bytes", plan.peakBytes());
        ObjectNode owners = out.putObject("owners"), host = out.putObject("host");
        plan.owners().forEach(owners::put);
        plan.host().forEach(host::put);
        var parts = out.putArray("loops");
        for (Plan.Part p : plan.parts()) {
            parts.addObject().put("stage", p.stage()).put("block", p.block()).put("steps", p.steps()).put("flop_per_step", p.cost().flop())
                    .put("bytes_per_step", p.cost().bytes()).put("arena_bytes", p.cost().arenaBytes());
        }
        ObjectNode ops = out.putObject("ops");
        for (Map.Entry<String, dev.qat.ops.Meter.Cost> e : plan.ops().entrySet()) {
            ops.putObject(e.getKey()).put("calls", e.getValue().calls()).put("flop", e.getValue().flop()).put("bytes", e.getValue().bytes());
        }
        ObjectNode cards = out.putObject("hours").put("assumed", Roofline.assumed());
        for (Roofline.Card c : Roofline.Card.values()) {
            ObjectNode hours = cards.putObject(c.name());
            Roofline.hours(plan, c).forEach(hours::put);
        }
        System.out.println(out);
    }
}
