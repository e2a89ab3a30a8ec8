package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.cli.RecipeReader;
import dev.qat.cli.Variants;
import dev.qat.cpu.CpuBackend;
import dev.qat.model.Shared;
import dev.qat.ops.Backend;
import dev.qat.train.Recipe;
import dev.qat.train.Runner;
import dev.qat.train.Runner.Row;
import dev.qat.train.Stage;
import dev.qat.train.Watch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** stories3M on the tail of tinystories_head.txt against PyTorch from the same formulas: perplexity 9.358 as it is, 21.25 at 4-8-4 (KL 0.864). */
final class LlmQatReferenceTest {
    @TempDir
    Path temp;

    @Test
    void roundedWithoutTrainingItIsAsBadAsInPyTorch() throws Exception {
        Path model = Shared.asset("stories3M"), text = Shared.asset("text/tinystories_head.txt");
        try (Backend backend = new CpuBackend(2)) {
            Path yaml = Files.writeString(temp.resolve("reference.yaml"), """
                    name: reference
                    model: {path: '%s'}
                    output: '%s'
                    data: {files: ['%s'], characters: 4000, length: 256}
                    eval: {files: ['%s'], skip: 160027, length: 256}
                    stages: [{method: min-max, bits: 4-8-4}]
                    """.formatted(model, temp, text, text));
            Recipe r = RecipeReader.read(yaml, List.of(), Recipe.class, new Variants(Stage.class, "method", Methods.all()));
            List<Row> rows = Runner.run(r, "", Map.of(), backend, Watch.NOBODY).rows();
            System.out.printf("stories3M at 4-8-4 without training: perplexity %.3f, KL %.4f (PyTorch 21.25, 0.864)%n", rows.get(1).perplexity(), rows.get(1).kl());
            assertEquals(9.358, rows.get(0).perplexity(), 0.001);
            assertEquals(21.25, rows.get(1).perplexity(), 0.01 * 21.25);
            assertEquals(0.864, rows.get(1).kl(), 0.01 * 0.864);
        }
    }
}
