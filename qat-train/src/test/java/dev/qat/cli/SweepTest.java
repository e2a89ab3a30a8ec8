package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.cpu.CpuBackend;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.train.TinyModels;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A small table of runs, made once and not again. */
final class SweepTest {
    @TempDir
    Path temp;

    @Test
    void aTableOfRowsColumnsAndSeeds() throws Exception {
        try (Backend backend = new CpuBackend(1)) {
            TinyModels.write(temp.resolve("model"), backend, 7);
        }
        Files.writeString(temp.resolve("base.yaml"), """
                name: base
                model: {path: '%s'}
                backend: cpu
                threads: 1
                data: {length: 16, samples: 8}
                eval: {length: 16, windows: 4}
                stages:
                  - {method: min-max, bits: 4-8-4}
                  - {method: llm-qat, bits: 4-8-4, batch: 4, rate: 1e-4}
                """.formatted(temp.resolve("model")));
        Path sweep = Files.writeString(temp.resolve("sweep.yaml"), """
                name: small
                recipe: base.yaml
                start: min-max
                output: '%s'
                seeds: [1, 2]
                rows:
                  - {name: 4-8-4}
                  - {name: 3-8-4, set: [stages.min-max.bits=3-8-4, stages.llm-qat.bits=3-8-4]}
                columns:
                  - {name: one pass}
                  - {name: two, set: [stages.llm-qat.epochs=2]}
                """.formatted(temp));
        assertEquals(0, Main.run("sweep", sweep.toString()));
        List<String> table = Files.readAllLines(temp.resolve("small/table.md"));
        assertTrue(table.get(0).matches("\\| small, from \\d+\\.\\d{3} \\| min-max \\| one pass \\| two \\|"), table.get(0));
        assertTrue(table.get(2).matches("\\| 4-8-4 (\\| \\d+\\.\\d{3} ± \\d+\\.\\d{3} \\(\\d\\.\\d{3}\\) ){3}\\|"), table.get(2));
        assertTrue(table.get(3).startsWith("| 3-8-4 |"));
        Path one = temp.resolve("small/3-8-4-two-2/result.json");
        var before = Files.getLastModifiedTime(one);
        assertEquals(0, Main.run("sweep", sweep.toString()));
        assertEquals(before, Files.getLastModifiedTime(one), "what is finished is not run twice");
        assertEquals(table, Files.readAllLines(temp.resolve("small/table.md")));
        assertEquals(Fail.USAGE, Main.run("sweep", sweep.toString(), "start=rtn"));
    }

    @Test
    void aRateTunedForEveryCellAndTheShareOfDeadWeights() throws Exception {
        TinyDir.in(temp);
        Files.writeString(temp.resolve("sweep.yaml"), """
                name: tuned
                recipe: recipe.yaml
                output: '%s'
                start: untrained
                seeds: [1, 2]
                tune: {key: stages.2.course.rate, values: [1e-9, 1e-3, 1e3]}
                rows:
                  - {name: twn, set: ['stages=[{method: twn, group: -1, course: {epochs: 0}}, {method: original}, {method: twn, group: -1, course: {batch: 4, epochs: 4}}]']}
                columns:
                  - {name: trained}
                """.formatted(temp));
        assertEquals(0, Main.run("sweep", temp.resolve("sweep.yaml").toString()));
        List<String> table = Files.readAllLines(temp.resolve("tuned/table.md"));
        assertTrue(table.get(2).matches("\\| twn \\| [\\d.]+ (± [\\d.]+ )?\\([\\d.]+\\), [\\d.]+ % dead \\| [\\d.]+ ± [\\d.]+ \\([\\d.]+\\), [\\d.]+ → [\\d.]+ % dead, \\d+ % stayed, at 1e-3 \\|"), table.get(2));
        for (String made : List.of("1e-9-1", "1e3-1", "1e-3-1", "1e-3-2")) assertTrue(Files.exists(temp.resolve("tuned/twn-trained-" + made + "/result.json")), made);
        assertTrue(Files.notExists(temp.resolve("tuned/twn-trained-1e3-2")), "the second seed at the best rate only");
        assertEquals(Fail.USAGE, Main.run("sweep", temp.resolve("sweep.yaml").toString(), "tune.key=''"));
    }

    @Test
    void aRowWithALineForEveryStage() throws Exception {
        TinyDir.in(temp);
        Path sweep = Files.writeString(temp.resolve("sweep.yaml"), """
                name: lines
                recipe: recipe.yaml
                output: '%s'
                seeds: [1, 2]
                rows:
                  - name: chain
                    lines: [RTN, '', AWQ]
                    set: ['stages=[{method: rtn, bits: 2, group: 12}, {method: gptq, bits: 2, group: 12}, {method: awq, bits: 2, group: 12}]']
                  - {name: smooth, set: ['stages=[{method: smoothquant}, {method: rtn, bits: 2, group: 12}]']}
                columns:
                  - {name: W3, set: [data.windows=8, data.draw=true, stages.*.bits=3]}
                """.formatted(temp));
        assertEquals(0, Main.run("sweep", sweep.toString()));
        List<String> table = Files.readAllLines(temp.resolve("lines/table.md"));
        assertEquals(5, table.size(), table::toString);
        assertTrue(table.get(2).matches("\\| RTN \\| \\d+\\.\\d{3} .*") && table.get(3).startsWith("| AWQ |") && table.get(4).startsWith("| smooth |"), table::toString);
        String recipe = Files.readString(temp.resolve("lines/chain-W3-1/recipe.yaml"));
        assertEquals(3, recipe.split("bits: 3", -1).length - 1, recipe);
        assertNotEquals(windows("chain-W3-1"), windows("chain-W3-2"), "a seed draws other windows");
        assertNotEquals(windows("chain-W3-1"), "", "windows are fingerprinted");
        Files.writeString(sweep, Files.readString(sweep).replace("[RTN, '', AWQ]", "[RTN, AWQ]"));
        assertEquals(Fail.USAGE, Main.run("sweep", sweep.toString()), "two names for three stages");
    }

    /** What the windows of a run were, as its result says. */
    private String windows(String run) throws Exception {
        return new ObjectMapper().readTree(temp.resolve("lines").resolve(run).resolve("result.json").toFile()).path("fingerprint").path("data").asText();
    }
}
