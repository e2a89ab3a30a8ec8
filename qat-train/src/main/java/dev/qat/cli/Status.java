package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.tensor.Fail;
import dev.qat.train.RunStatus;
import dev.qat.watch.Pulse;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Says how runs stand. */
@Command(name = "status", versionProvider = Main.Version.class, mixinStandardHelpOptions = true,
        description = "Say how a run stands: what it does now, what was judged, what a restart would go on from.")
final class Status implements Callable<Integer> {
    @Parameters(index = "0", arity = "0..1", defaultValue = "runs", paramLabel = "RUN", description = "The directory of a run, or of several (default: runs).")
    private Path dir;

    @Option(names = "--json", description = "one JSON array, an object for each run")
    private boolean json;

    @Option(names = "--plot", paramLabel = "FILE.svg", description = "draw what was noted over the steps, loss and share of dead weights for one, a line for every stage")
    private Path plot;

    @Option(names = "--alive", paramLabel = "MINUTES", description = "print nothing; end with 1 if a run is at work but has been silent for so long (a health check)")
    private Integer alive;

    @Override
    public Integer call() {
        if (alive != null) return alive();
        List<RunStatus> runs = RunStatus.in(dir);
        if (plot != null) AtomicFile.write(plot, Plot.of(runs));
        if (json) {
            ArrayNode all = new ObjectMapper().createArrayNode();
            runs.forEach(r -> all.add(json(r)));
            System.out.println(all.toPrettyString());
            return 0;
        }
        if (runs.isEmpty()) System.out.println(dir + " holds no runs");
        for (int i = 0; i < runs.size(); i++) {
            if (i > 0) System.out.println();
            print(runs.get(i));
        }
        return 0;
    }

    private int alive() {
        try {
            boolean hangs = RunStatus.in(dir).stream().anyMatch(r -> r.state().equals(Pulse.RUNNING) && r.silence().compareTo(Duration.ofMinutes(alive)) > 0);
            return hangs ? 1 : 0;
        } catch (Fail notYet) {
            return 0; // a run that has not made its directory yet is no dead one
        }
    }

    private static void print(RunStatus r) {
        System.out.println(r.directory() + ": " + r.state());
        Pulse p = r.pulse();
        if (p != null) {
            if (!p.why().isEmpty()) System.out.println("  why         " + p.why());
            if (p.steps() > 0 && !r.finished()) System.out.println("  at          " + place(r));
            if (Double.isFinite(p.loss())) System.out.println("  loss        " + Format.fixed(p.loss(), 4) + ", lr " + Format.scientific(p.rate()) + ", " + Format.duration(p.secondsPerStep()) + " per step");
            System.out.println("  work        " + Format.duration(p.seconds()) + " in all; process " + p.process() + " on " + p.host() + " since " + p.started() + ", heard " + heard(r));
        }
        if (!r.finished()) System.out.println("  checkpoint  " + (r.checkpoint().isEmpty() ? "none: run again it starts over" : r.checkpoint() + ", " + Format.bytes(r.checkpointBytes())));
        if (r.rows().isEmpty()) return;
        Table table = new Table(Table.text("stage"), Table.number("perplexity"), Table.number("KL to fp"), Table.number("bits/weight"));
        for (Row row : r.rows()) table.row(row.name(), Format.fixed(row.perplexity(), 3), Format.fixed(row.kl(), 4), Format.fixed(row.bitsPerWeight(), 2));
        table.print(System.out);
    }

    /** The loop at work, how far it is, and how long it will take if it is running. */
    static String place(RunStatus r) {
        Pulse p = r.pulse();
        if (p == null || p.steps() == 0) return "";
        String left = r.state().equals(Pulse.RUNNING) && Double.isFinite(p.secondsPerStep()) ? ", " + Format.duration((p.steps() - p.step()) * p.secondsPerStep()) + " left" : "";
        return "%s%s %d/%d%s".formatted(p.stage(), p.block() < 0 ? "" : ", block " + p.block() + ",", p.step(), p.steps(), left);
    }

    static String heard(RunStatus r) {
        return Format.duration(r.silence().toSeconds()) + " ago";
    }

    private static ObjectNode json(RunStatus r) {
        ObjectMapper mapper = new ObjectMapper();
        ObjectNode out = mapper.createObjectNode().put("name", r.name()).put("directory", r.directory().toString()).put("state", r.state());
        out.set("pulse", mapper.valueToTree(r.pulse()));
        out.set("rows", mapper.valueToTree(r.rows()));
        return out.put("checkpoint", r.checkpoint()).put("checkpoint_bytes", r.checkpointBytes());
    }
}
