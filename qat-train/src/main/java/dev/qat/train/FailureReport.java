package dev.qat.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.AtomicFile;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;

/** failure.json: what a broken step looked like, for whoever has to find out why. */
final class FailureReport {
    private FailureReport() {}

    /** Writes the report into the run's directory and returns its place. */
    static Path write(Run run, Trainer.Name name, long step, int attempt, double loss, double norm, double rate, Diagnosis.Finding finding, AdamW adam) {
        ObjectNode out = new ObjectMapper().createObjectNode();
        out.put("written", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString()).put("stage", name.stage()).put("block", name.block());
        out.put("step", step).put("attempt", attempt).put("loss", loss).put("gradient_norm", norm).put("learning_rate", rate);
        if (finding != null) out.putObject("first").put("op", finding.op()).put("tensor", finding.tensor()).put("layer", finding.layer()).put("value", finding.value());
        ObjectNode values = out.putObject("broken_values"), grads = out.putObject("broken_gradients");
        Memory memory = run.backend().memory();
        for (AdamW.State s : adam.state()) {
            count(values, s.param().name(), memory, s.param().value());
            count(grads, s.param().name(), memory, s.param().value().grad);
        }
        Path file = run.recipe().directory().resolve("failure.json");
        AtomicFile.write(file, out.toPrettyString() + "\n");
        return file;
    }

    /** Notes how many elements are not finite, where any is. */
    private static void count(ObjectNode to, String name, Memory memory, Tensor t) {
        long bad = 0;
        for (float v : memory.floats(t)) if (!Float.isFinite(v)) bad++;
        if (bad > 0) to.put(name, bad);
    }
}
