package dev.qat.cli;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.ByteLevelTokenizer;
import dev.qat.model.Model;
import dev.qat.model.Tiny;
import dev.qat.ops.Backend;
import dev.qat.tensor.Param;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.UnaryOperator;

/** A folder with a tiny model that speaks bytes, a text and a recipe, for tests of whole commands. */
record TinyDir(Path root) {
    private static final String CONFIG = Tiny.with(Tiny.LLAMA, """
            {"vocab_size": 260, "bos_token_id": 256, "eos_token_id": 257, "tie_word_embeddings": true}""");

    static TinyDir in(Path root) throws IOException {
        TinyDir dir = new TinyDir(root);
        dir.model("model", "{}", false);
        Files.writeString(root.resolve("text.txt"), "A text that says little, and says it again and again. ".repeat(20));
        Files.writeString(root.resolve("recipe.yaml"), """
                name: tiny
                model: {path: %1$s/model}
                backend: cpu
                threads: 1
                output: %1$s/runs
                data: {files: [%1$s/text.txt], length: 16, windows: 16}
                eval: {files: [%1$s/text.txt], length: 16, windows: 4, batch: 4}
                stages:
                  - {method: rtn, bits: 3, group: 12}
                  - {method: block-ap, bits: 3, group: 12, epochs: 1, batch: 4}
                  - {method: e2e-qp, epochs: 1, batch: 4}
                """.formatted(root));
        return dir;
    }

    /** A model whose config has other keys, and whose weights are all NaN if {@code broken}. */
    Path model(String name, String changes, boolean broken) throws IOException {
        String config = Tiny.with(CONFIG, changes);
        Path dir = root.resolve(name);
        try (Backend cpu = new CpuBackend(1)) {
            Model m = Tiny.model(cpu, config, 3);
            if (broken) {
                Param down = m.blocks().getFirst().down.weight;
                float[] nan = new float[Math.toIntExact(down.value().size())];
                Arrays.fill(nan, Float.NaN);
                cpu.memory().set(down.value(), nan);
            }
            Tiny.write(dir, m, Tiny.json(config), UnaryOperator.identity());
        }
        Files.writeString(dir.resolve("tokenizer.json"), ByteLevelTokenizer.json());
        Files.writeString(dir.resolve("tokenizer_config.json"), ByteLevelTokenizer.config(32));
        return dir;
    }

    /** Changes a key of a model's config.json and leaves its weights as they are. */
    void reconfigure(Path model, String changes) throws IOException {
        ObjectNode config = Tiny.json(Files.readString(model.resolve("config.json")));
        Files.writeString(model.resolve("config.json"), Tiny.with(config.toString(), changes));
    }

    String recipe() {
        return root.resolve("recipe.yaml").toString();
    }

    String path(String name) {
        return root.resolve(name).toString();
    }
}
