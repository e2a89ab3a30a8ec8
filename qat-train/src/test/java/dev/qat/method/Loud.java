package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.model.Block;
import dev.qat.model.Model;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.tensor.Param;
import dev.qat.train.Recipe;
import dev.qat.train.Run;
import dev.qat.train.Runner;
import dev.qat.train.Stage;
import dev.qat.watch.Row;
import dev.qat.watch.Watch;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/** A model as real ones are, a few channels of its norms far louder than the others, and runs of stages on it. */
final class Loud {
    private Loud() {}

    static Path write(Path dir, Backend be, String config, double factor) {
        var json = Tiny.json(Tiny.with(config, """
                {"bos_token_id": 1, "eos_token_id": 2}"""));
        Model m = Tiny.model(be, json.toString(), 5);
        Merge loud = new Merge(be.memory());
        for (Block b : m.blocks()) {
            for (Param gain : List.of(b.norm1, b.norm2)) for (int i = 3; i < loud.of(gain).length; i += 9) loud.of(gain)[i] *= factor;
        }
        loud.store();
        return Tiny.write(dir.resolve("model"), m, json, n -> n);
    }

    /** Thrown once a look was had, so that nothing is judged. */
    private static final class Seen extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    private record Look(Consumer<Run> looking) implements Stage {
        @Override
        public void run(Run run) {
            if (run.planned()) return;   // nothing that is computed there means anything
            looking.accept(run);
            throw new Seen();
        }
    }

    /** Stands in for a stage of a run of a model of this config. */
    static void look(Path dir, String config, Consumer<Run> looking) {
        try (Backend be = new CpuBackend(1)) {
            Path model = write(dir, be, config, 1);
            assertThrows(Seen.class, () -> run(dir, be, model, List.of(new Look(looking))));
        }
    }

    /** The table of a run on 64 samples of 24 tokens. */
    static List<Row> run(Path dir, Backend be, Path model, List<Stage> stages) {
        return run(dir, be, model, stages, new Recipe.Data(List.of(), List.of(), 0, 24, 0, 64, 1, 0, 0), 32);
    }

    static List<Row> run(Path dir, Backend be, Path model, List<Stage> stages, Recipe.Data data, int judged) {
        Recipe d = Recipe.DEFAULTS;
        Recipe r = new Recipe("run", new Recipe.Source(model, Recipe.Init.LOAD), "cpu", Precision.FP32, false, 1, 3, dir.resolve("runs"),
                data, new Recipe.Eval(List.of(), 0, data.length(), judged, 8), d.save(),
                new Recipe.Checkpoint(0, 0, 0, Recipe.Resume.NEVER), d.recovery(), new Recipe.Observe(false, 0, ""), d.target(), stages);
        return Runner.run(r, "name: run\n", Map.of("qat", "test"), be, Watch.NOBODY).rows();
    }
}
