package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.Precision;
import dev.qat.cuda.StandIn;
import dev.qat.method.Rtn;
import dev.qat.model.Block;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.watch.Witness;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A pass of hidden states through a block may be ended at any batch, and goes on there: nothing is passed twice, and the sums are the same. */
final class PassTest {
    private static final int BLOCKS = 2, BATCHES = 3;
    /** Batches that passed, and sums that were found, in all processes. */
    private static final List<String> PASSED = new ArrayList<>(), FOUND = new ArrayList<>();
    private static Stop stop;
    private static Runnable each = () -> {}, search = () -> {};

    @TempDir
    Path temp;

    private static final class Killed extends Error {
        private static final long serialVersionUID = 1;
    }

    /** The sum over all batches of the first state, weighed by the batch's number: an order or a batch that is wrong changes it. */
    private static final class Sum implements Tally {
        private final Memory memory;
        private final Chain chain;
        private final String pass;
        private final double[] sum = new double[2];

        Sum(Memory memory, Chain chain, String pass) {
            this.memory = memory;
            this.chain = chain;
            this.pass = pass;
        }

        @Override
        public void take() {
            PASSED.add(pass + " " + (int) sum[1]);
            sum[0] = 3 * sum[0] + memory.floats(chain.x)[0];
            sum[1]++;
            each.run();
        }

        @Override
        public long bytes() {
            return 16;
        }

        @Override
        public MemorySegment sums() {
            return MemorySegment.ofArray(sum);
        }

        @Override
        public void restore(MemorySegment was) {
            MemorySegment.copy(was, ValueLayout.JAVA_DOUBLE_UNALIGNED, 0, sum, 0, 2);
        }
    }

    /** Looks at every block, finds something out from what it saw, then carries the states on. */
    private record Looking() implements Stage {
        @Override
        public void run(Run run) {
            try (Chain chain = Chain.open(run, "looking", run.windows(Part.ALL).first(4 * BATCHES), 4)) {
                for (Block b : run.student().blocks()) {
                    Sum look = new Sum(run.backend().memory(), chain, "look " + b.index), advance = new Sum(run.backend().memory(), chain, "advance " + b.index);
                    chain.look(b, List.of(look));
                    List<MemorySegment> found = run.once("looking", b.index, 8, () -> {
                        if (run.planned()) return List.of();
                        search.run();
                        run.pause("looking", b.index);
                        return List.of(MemorySegment.ofArray(look.sum));
                    });
                    for (MemorySegment s : found) FOUND.add(b.index + ": " + s.toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED)[0]);
                    if (b.index + 1 < BLOCKS) chain.advance(b, List.of(advance));
                }
                chain.free();
            }
        }

        @Override
        public boolean judged() {
            return false;
        }
    }

    private final List<String> said = new ArrayList<>();

    private void run(String name, Supplier<Backend> backend, Recipe.Checkpoint checkpoint) {
        stop = new Stop();
        FOUND.clear();
        try (Backend b = backend.get()) {
            if (!Files.exists(temp.resolve("model"))) TinyModels.write(temp.resolve("model"), b, 7);
            Recipe r = new Recipe(name, new Recipe.Source(temp.resolve("model"), Recipe.Init.LOAD), "cpu", Precision.FP32, false, 1, 3, temp.resolve("runs"),
                    new Recipe.Data(List.of(), List.of(), 0, 16, 0, 16, 1, 0, 0), new Recipe.Eval(List.of(), 0, 16, 4, 4), Recipe.Save.DEFAULTS, checkpoint,
                    Recipe.Recovery.DEFAULTS, Recipe.Observe.DEFAULTS, "", List.of(new Looking(), new Rtn(4, 32)));
            Runner.run(r, "", Map.of("qat", "test"), b, new Witness((_, _) -> {}, said), stop);
        }
    }

    private static Runnable atCall(int n, Runnable then) {
        int[] left = {n};
        return () -> {
            if (--left[0] == 0) then.run();
        };
    }

    private static List<String> everyBatch() {
        List<String> all = new ArrayList<>();
        for (String pass : List.of("look 0", "advance 0", "look 1")) for (int i = 0; i < BATCHES; i++) all.add(pass + " " + i);
        return all;
    }

    private List<String> whole(Supplier<Backend> backend) {
        PASSED.clear();
        each = search = () -> {};
        run("whole", backend, Recipe.Checkpoint.DEFAULTS);
        assertEquals(everyBatch(), PASSED);
        return List.copyOf(FOUND);
    }

    @Test
    void aStopAfterAnyBatchLosesNone() {
        stopAfterAnyBatch("cpu", () -> new CpuBackend(1), 1);
    }

    @Test
    void aStopOnCudaLosesNone() {
        stopAfterAnyBatch("cuda", () -> new CudaBackend(StandIn.open(), Precision.FP32), 2);
    }

    private void stopAfterAnyBatch(String device, Supplier<Backend> backend, int stride) {
        List<String> expected = whole(backend);
        for (int at = 1; at <= 3 * BATCHES; at += stride) {
            PASSED.clear();
            each = atCall(at, () -> stop.ask("SIGTERM"));
            String name = device + at;
            Fail e = assertThrows(Fail.class, () -> run(name, backend, Recipe.Checkpoint.DEFAULTS));
            assertEquals(Fail.AGAIN, e.code(), e.getMessage());
            assertTrue(e.getMessage().contains(at % BATCHES == 0 ? "block" : "SIGTERM at batch %d of %d of looking (calibration), block".formatted(at % BATCHES, BATCHES)), e.getMessage());
            run(name, backend, Recipe.Checkpoint.DEFAULTS);
            assertEquals(everyBatch(), PASSED, "stopped after batch " + at);
            assertEquals(expected, FOUND, "stopped after batch " + at);
        }
    }

    @Test
    void aStopInASearchKeepsWhatItSearchesIn() {
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        List<String> expected = whole(cpu);
        for (int block = 0; block < BLOCKS; block++) {
            PASSED.clear();
            search = atCall(block + 1, () -> stop.ask("SIGUSR1"));
            String name = "search" + block;
            Fail e = assertThrows(Fail.class, () -> run(name, cpu, Recipe.Checkpoint.DEFAULTS));
            assertTrue(e.getMessage().contains("SIGUSR1 in block " + block + " of looking: checkpoint"), e.getMessage());
            run(name, cpu, Recipe.Checkpoint.DEFAULTS);
            assertEquals(everyBatch(), PASSED);
            assertEquals(expected, FOUND);
        }
    }

    /** Killed without a word, a pass goes on at the batch of the last checkpoint. */
    @Test
    void aKillLosesWhatNoCheckpointHas() {
        Supplier<Backend> cpu = () -> new CpuBackend(1);
        List<String> expected = whole(cpu);
        Recipe.Checkpoint often = new Recipe.Checkpoint(0, 2, 2, Recipe.Resume.AUTO); // before the third batch of every pass
        for (int at = 1; at <= 3 * BATCHES; at++) {
            PASSED.clear();
            each = atCall(at, () -> {
                throw new Killed();
            });
            String name = "killed" + at;
            assertThrows(Killed.class, () -> run(name, cpu, often));
            run(name, cpu, often);
            // what passed between the last checkpoint and the death passes again
            int last = at < 3 ? 0 : at < 6 ? 2 : at < 9 ? 5 : 8;
            List<String> passed = new ArrayList<>(everyBatch().subList(0, at));
            passed.addAll(everyBatch().subList(last, everyBatch().size()));
            assertEquals(passed, PASSED, "killed after batch " + at);
            assertEquals(expected, FOUND);
        }
    }
}
