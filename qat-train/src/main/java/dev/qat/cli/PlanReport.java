package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.ops.Meter;
import dev.qat.train.Fit;
import dev.qat.train.Plan;
import dev.qat.train.Roofline;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** A plan and its verdict, for people and for programs. */
final class PlanReport {
    private PlanReport() {}

    static void print(PlanVerb.Outcome o) {
        Plan plan = o.plan();
        System.out.printf("%s parameters%n%nMemory at its peak, by owner%n", Format.count(plan.parameters()));
        Table memory = new Table(Table.text("owner"), Table.number("bytes"));
        plan.owners().forEach((owner, bytes) -> memory.row(owner, Format.bytes(bytes)));
        memory.row("all of it", Format.bytes(plan.peakBytes()));
        plan.host().forEach((owner, bytes) -> memory.row(owner + " (host)", Format.bytes(bytes)));
        memory.print(System.out);
        System.out.printf("%nWork%n");
        work(plan).print(System.out);
        System.out.printf("%nTime on a device (%s)%n", Roofline.assumed());
        Table hours = new Table(Stream.concat(Stream.of(Table.text("loop")), o.hours().keySet().stream().map(Table::number)).toArray(Table.Column[]::new));
        for (String stage : PlanVerb.loops(plan).keySet()) {
            hours.row(Stream.concat(Stream.of(stage), o.hours().values().stream().map(h -> Format.duration(3600 * h.get(stage)))).toArray());
        }
        hours.print(System.out);
        System.out.printf("%nDisk, in the run's directory%n");
        Table disk = new Table(Table.text("files"), Table.number("bytes"));
        plan.disk().forEach((files, bytes) -> disk.row(files, Format.bytes(bytes)));
        disk.print(System.out);
        System.out.println();
        for (Fit.Need n : o.fit().needs()) {
            System.out.printf("%s: %s needed, %s%n", n.what(), Format.bytes(n.bytes()), n.limit() == 0 ? "nobody knows of how much; --memory 80GB says it" : Format.bytes(n.limit()) + " may be taken");
        }
        System.out.println(verdict(o));
    }

    private static Table work(Plan plan) {
        Table work = new Table(Table.text("loop"), Table.number("steps"), Table.number("FLOP/step"), Table.number("bytes/step"), Table.number("step memory"), Table.number("FLOP"));
        PlanVerb.loops(plan).forEach((stage, parts) -> {
            Plan.Part p = parts.getLast();
            work.row(stage, parts.stream().mapToLong(Plan.Part::steps).sum(), Format.count(p.cost().flop()), Format.count(p.cost().bytes()),
                    Format.bytes(p.cost().arenaBytes()), Format.count(parts.stream().mapToDouble(Plan.Part::flop).sum()));
        });
        return work;
    }

    private static String verdict(PlanVerb.Outcome o) {
        if (o.fit().fits()) return o.fit().known() ? "fits" : "fits the host; the device is unknown";
        return o.savings().map(s -> s.fit().fits() ? "does not fit, change these keys: " + String.join(" ", s.keys()) + needs(s.fit())
                : "does not fit; nearest comes " + String.join(" ", s.keys()) + needs(s.fit())).orElse("does not fit, and no key is known that would help");
    }

    private static String needs(Fit fit) {
        return " (then " + String.join(", ", fit.needs().stream().map(n -> n.what() + " " + Format.bytes(n.bytes())).toList()) + ")";
    }

    static ObjectNode json(PlanVerb.Outcome o) {
        Plan plan = o.plan();
        ObjectNode out = new ObjectMapper().createObjectNode().put("parameters", plan.parameters()).put("peak_bytes", plan.peakBytes());
        ObjectNode owners = out.putObject("owners"), host = out.putObject("host"), disk = out.putObject("disk");
        plan.owners().forEach(owners::put);
        plan.host().forEach(host::put);
        plan.disk().forEach(disk::put);
        ArrayNode parts = out.putArray("loops");
        for (Plan.Part p : plan.parts()) {
            parts.addObject().put("stage", p.stage()).put("block", p.block()).put("steps", p.steps()).put("flop_per_step", p.cost().flop())
                    .put("bytes_per_step", p.cost().bytes()).put("arena_bytes", p.cost().arenaBytes());
        }
        ObjectNode ops = out.putObject("ops");
        for (Map.Entry<String, Meter.Cost> e : plan.ops().entrySet()) {
            ops.putObject(e.getKey()).put("calls", e.getValue().calls()).put("flop", e.getValue().flop()).put("bytes", e.getValue().bytes());
        }
        ObjectNode devices = out.putObject("hours").put("assumed", Roofline.assumed());
        o.hours().forEach((device, loops) -> {
            ObjectNode hours = devices.putObject(device);
            loops.forEach(hours::put);
        });
        out.put("fits", o.fit().fits()).put("verdict", verdict(o));
        ArrayNode needs = out.putArray("needs"), keys = out.putArray("change");
        for (Fit.Need n : o.fit().needs()) needs.addObject().put("what", n.what()).put("bytes", n.bytes()).put("limit", n.limit());
        o.savings().map(Savings.Found::keys).orElse(List.of()).forEach(keys::add);
        return out;
    }
}
