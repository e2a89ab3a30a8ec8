package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.Precision;
import dev.qat.method.Rtn;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Work without an optimizer (calibration) is done once, however often its run is ended and gone on with. */
final class OnceTest {
    private static final List<Integer> WORKED = new ArrayList<>(), FOUND = new ArrayList<>();
    private static Stop stop;
    private static int stopAt, dieAt;

    @TempDir
    Path temp;

    private static final class Killed extends Error {
        private static final long serialVersionUID = 1;
    }

    /** Finds the numbers 0, 100, 200, .. about blocks 0, 1, 2, .. */
    private record Counting(int blocks) implements Stage {
        @Override
        public void run(Run run) {
            for (int b = 0; b < blocks; b++) {
                int block = b;
                List<MemorySegment> found = run.once("counting", block, 8, () -> {
                    if (run.planned()) return List.of();
                    WORKED.add(block);
                    if (WORKED.size() == stopAt) stop.ask("the test");
                    if (WORKED.size() == dieAt) throw new Killed();
                    return List.of(MemorySegment.ofArray(new double[] {100.0 * block}), MemorySegment.ofArray(new float[] {block, 1}));
                });
                if (run.planned()) continue;
                assertEquals(2, found.size());
                assertEquals(block, found.get(1).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED)[0]);
                FOUND.add((int) found.getFirst().toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED)[0]);
            }
        }

        @Override
        public boolean judged() {
            return false;
        }
    }

    private void run(Recipe.Checkpoint checkpoint) {
        stop = new Stop();
        FOUND.clear();
        try (Backend b = new CpuBackend(1)) {
            if (!Files.exists(temp.resolve("model"))) TinyModels.write(temp.resolve("model"), b, 7);
            Recipe r = new Recipe("once", new Recipe.Source(temp.resolve("model"), Recipe.Init.LOAD), "cpu", Precision.FP32, false, 1, 3, temp.resolve("runs"),
                    new Recipe.Data(List.of(), List.of(), 0, 16, 0, 8, 1, 0, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS, checkpoint,
                    Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", List.of(new Counting(5), new Rtn(4, 32)));
            Runner.run(r, "", Map.of("qat", "test"), b, Watch.NOBODY, stop);
        }
    }

    @Test
    void everyBlockIsWorkedOnOnce() {
        WORKED.clear();
        dieAt = 0;
        Recipe.Checkpoint kept = new Recipe.Checkpoint(10, 0, 2, Recipe.Resume.AUTO);
        for (int at : new int[] {2, 3}) {
            stopAt = at;
            Fail e = assertThrows(Fail.class, () -> run(kept));
            assertEquals(Fail.AGAIN, e.code());
            assertTrue(e.getMessage().contains("after block " + (at - 1) + " of counting: checkpoint"), e.getMessage());
        }
        stopAt = 0;
        run(kept);
        assertEquals(List.of(0, 1, 2, 3, 4), WORKED);
        assertEquals(List.of(0, 100, 200, 300, 400), FOUND);
    }

    /** Killed without a word: what the last checkpoint has is not made again. */
    @Test
    void aKillLosesWhatNoCheckpointHas() {
        WORKED.clear();
        stopAt = 0;
        dieAt = 4;
        Recipe.Checkpoint often = new Recipe.Checkpoint(0, 1, 2, Recipe.Resume.AUTO);
        assertThrows(Killed.class, () -> run(often));
        dieAt = 0;
        run(often);
        assertEquals(List.of(0, 1, 2, 3, 3, 4), WORKED, "the fourth was in no checkpoint");
        assertEquals(List.of(0, 100, 200, 300, 400), FOUND);
    }
}
