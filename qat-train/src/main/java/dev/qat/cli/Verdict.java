package dev.qat.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.eval.MultipleChoice.Score;
import dev.qat.eval.Perplexity;
import dev.qat.eval.Statistics;
import dev.qat.eval.Statistics.Difference;
import dev.qat.eval.Task;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** What one model was worth, and one or two such as text or as one JSON object. */
record Verdict(Path model, Optional<Perplexity> perplexity, List<Score> tasks, String backend, double seconds) {
    private static final ObjectMapper JSON = new ObjectMapper();

    static String text(List<Verdict> verdicts) {
        StringBuilder text = new StringBuilder();
        Table perplexities = new Table(Table.text("model"), Table.text("protocol"), Table.number("window"), Table.number("tokens"),
                Table.number("perplexity"), Table.number("nats/token"), Table.number("stderr"));
        Table tasks = new Table(Table.text("model"), Table.text("task"), Table.number("items"), Table.number("acc"), Table.number("stderr"),
                Table.number("acc_norm"), Table.number("stderr"));
        for (Verdict v : verdicts) {
            v.perplexity.ifPresent(q -> perplexities.row(v.name(), q.protocol().key(), q.window(), q.tokens(), Format.fixed(q.perplexity(), 4),
                    Format.fixed(q.nll(), 5), Format.fixed(q.stderr(), 5)));
            for (Score t : v.tasks) {
                tasks.row(v.name(), t.task().key(), t.items(), Format.fixed(t.acc(), 4), Format.fixed(t.accStderr(), 4),
                        Format.fixed(t.accNorm(), 4), Format.fixed(t.accNormStderr(), 4));
            }
        }
        if (verdicts.getFirst().perplexity.isPresent()) text.append(perplexities.render());
        difference(verdicts).ifPresent(d -> text.append(String.format(Locale.ROOT,
                "The first loses %+.5f nats/token against the second (stderr %.5f, paired t-test over windows p = %.2g).%n", d.nll(), d.stderr(), d.p())));
        if (!verdicts.getFirst().tasks.isEmpty()) text.append(tasks.render());
        return text.toString();
    }

    static String json(List<Verdict> verdicts) {
        ObjectNode root = verdicts.getFirst().json();
        if (verdicts.size() == 2) root.set("against", verdicts.get(1).json());
        difference(verdicts).ifPresent(d -> {
            ObjectNode difference = root.putObject("difference").put("nll", d.nll());
            number(difference, "stderr", d.stderr());
            number(difference, "p", d.p());
        });
        return root + "\n";
    }

    private ObjectNode json() {
        ObjectNode to = JSON.createObjectNode().put("model", model.toString());
        perplexity.ifPresent(q -> {
            to.put("protocol", q.protocol().key()).put("perplexity", q.perplexity()).put("tokens", q.tokens()).put("window", q.window()).put("nll", q.nll());
            number(to, "stderr", q.stderr());
        });
        if (!tasks.isEmpty()) {
            ObjectNode all = to.putObject("tasks");
            for (Score t : tasks) json(all.putObject(t.task().key()), t);
        }
        return to.put("backend", backend).put("seconds", seconds);
    }

    private static void json(ObjectNode to, Score t) {
        to.put("items", t.items()).put("acc", t.acc());
        number(to, "acc_stderr", t.accStderr());
        if (t.task() == Task.LAMBADA) {
            number(to, "target_word_ppl", t.targetPerplexity());
        } else {
            to.put("acc_norm", t.accNorm());
            number(to, "acc_norm_stderr", t.accNormStderr());
        }
    }

    /** JSON knows no NaN; what cannot be told (the error of a single window) is null. */
    private static void number(ObjectNode to, String key, double value) {
        if (Double.isFinite(value)) to.put(key, value);
        else to.putNull(key);
    }

    private static Optional<Difference> difference(List<Verdict> verdicts) {
        if (verdicts.size() < 2 || verdicts.getFirst().perplexity.isEmpty()) return Optional.empty();
        return Optional.of(Statistics.paired(verdicts.get(0).perplexity.orElseThrow(), verdicts.get(1).perplexity.orElseThrow()));
    }

    private String name() {
        return model.toAbsolutePath().normalize().getFileName().toString();
    }
}
