package dev.qat.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.data.CausalLm;
import dev.qat.data.HfModelDir;
import dev.qat.data.Tokenizer;
import dev.qat.eval.MultipleChoice;
import dev.qat.eval.Task;
import dev.qat.ops.Backend;
import dev.qat.train.ModelLm;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Zero-shot tasks against another program's scores of the same models: each choice's log-probability, and the accuracies. */
class GoldenTasksTest {
    private static final Map<Task, String> FILES = new TreeMap<>(Map.of(Task.ARC_EASY, "arc_easy_test", Task.ARC_CHALLENGE, "arc_challenge_test", Task.PIQA, "piqa_validation",
            Task.HELLASWAG, "hellaswag_validation", Task.WINOGRANDE, "winogrande_xl_validation", Task.LAMBADA, "lambada_test"));
    /** Tasks that the small model judges whole in little time. */
    private static final List<Task> SHORT = List.of(Task.WINOGRANDE, Task.LAMBADA, Task.PIQA);

    @ParameterizedTest
    @CsvSource({"stories260K,200", "stories3M,10"})
    void choicesAreScoredAsTheOtherProgramScoresThem(String name, int most) throws IOException {
        Path dir = Shared.asset(name);
        JsonNode golden = new ObjectMapper().readTree(Shared.asset("benchmarks/golden_eval_first200.json").toFile()).get("results").get(name);
        try (Backend backend = new CpuBackend(1); HfModelDir source = HfModelDir.open(dir); Tokenizer tokenizer = Tokenizer.of(dir);
                CausalLm lm = new ModelLm(Model.load(source, backend.memory()), backend)) {
            MultipleChoice judge = new MultipleChoice(lm, tokenizer::encodeWithBos, 16);
            for (Task task : FILES.keySet()) {
                int items = SHORT.contains(task) ? most : 10;
                MultipleChoice.Score s = judge.judge(task, task.read(Shared.asset("benchmarks/" + FILES.get(task) + ".jsonl.gz"), items), _ -> {});
                double worst = furthest(golden.get("first10_choice_logprob_sums").get(task.key()), s.sums());
                System.out.printf("golden: %s, %s: Σ log p within %.1e%n", name, task.key(), worst);
                assertTrue(worst <= 1e-3, task + ": a choice's score is off by " + worst);
                if (items == 200) accuracies(golden.get("summary").get(task.key()), s);
            }
        }
    }

    private static double furthest(JsonNode expected, List<double[]> got) {
        double worst = 0;
        assertEquals(10, expected.size());
        for (int i = 0; i < expected.size(); i++) {
            assertEquals(expected.get(i).size(), got.get(i).length);
            for (int c = 0; c < got.get(i).length; c++) worst = Math.max(worst, Math.abs(got.get(i)[c] - expected.get(i).get(c).asDouble()));
        }
        return worst;
    }

    private static void accuracies(JsonNode expected, MultipleChoice.Score s) {
        assertEquals(expected.get("n").asInt(), s.items());
        assertEquals(expected.get("acc").asDouble(), s.acc(), 1e-9, s.task() + " acc");
        if (s.task() == Task.LAMBADA) assertEquals(expected.get("target_word_ppl").asDouble(), s.targetPerplexity(), 1e-4 * s.targetPerplexity());
        else assertEquals(expected.get("acc_norm").asDouble(), s.accNorm(), 1e-9, s.task() + " acc_norm");
    }
}
