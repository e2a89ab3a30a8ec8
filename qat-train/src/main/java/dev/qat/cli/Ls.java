package dev.qat.cli;

import dev.qat.train.RunStatus;
import dev.qat.watch.Row;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

/** Lists runs, one line each; the figures are those of the last stage that was judged. */
@Command(name = "ls", versionProvider = Main.Version.class, mixinStandardHelpOptions = true, description = "List the runs of a directory and of its folders: state, place, last figures.")
final class Ls implements Callable<Integer> {
    @Parameters(index = "0", arity = "0..1", defaultValue = "runs", paramLabel = "DIR", description = "A directory of runs (default: runs).")
    private Path dir;

    @Override
    public Integer call() {
        List<RunStatus> runs = RunStatus.in(dir);
        if (runs.isEmpty()) {
            System.out.println(dir + " holds no runs");
            return 0;
        }
        Table table = new Table(Table.text("run"), Table.text("state"), Table.text("at"), Table.number("perplexity"), Table.number("KL to fp"), Table.text("heard"));
        for (RunStatus r : runs) {
            Row last = r.rows().isEmpty() ? null : r.rows().getLast();
            String at = r.finished() ? "" : Status.place(r);
            table.row(r.name(), r.state(), at.isEmpty() && last != null ? last.name() : at, last == null ? "" : Format.fixed(last.perplexity(), 3),
                    last == null ? "" : Format.fixed(last.kl(), 4), r.pulse() == null ? "" : Status.heard(r));
        }
        table.print(System.out);
        return 0;
    }
}
