package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.data.Safetensors;
import dev.qat.model.Slab;
import dev.qat.ops.Backend;
import dev.qat.tensor.Param;
import dev.qat.watch.Metrics;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a checkpoint is written from stays as it is until it is written. */
final class JournalTest {
    @TempDir
    Path temp;

    /** A run that fails closes its chains while a slow disk is still at work: their memory is used again at once. */
    @Test
    void chainsStayUntilTheyAreWritten() throws Exception {
        byte[] states = new byte[4096];
        Arrays.fill(states, (byte) 7);
        CountDownLatch disk = new CountDownLatch(1);
        try (Backend b = new CpuBackend(1); Metrics metrics = new Metrics(temp.resolve("metrics.jsonl"), 0)) {
            Param p = Slab.of(b.memory(), "slab", slab -> slab.param("p", Param.Kind.TRANSFORM, 4));
            Recipe.Checkpoint each = new Recipe.Checkpoint(0, 1, 2, Recipe.Resume.NEVER);
            try (AdamW adam = new AdamW(b, List.of(new AdamW.Group(List.of(p), 1e-3, 0)), AdamW.Config.DEFAULTS);
                 Ledger ledger = new Ledger(new Checkpoints(temp.resolve("checkpoints"), 2), metrics, new Ledger.Identity(Map.of(), Map.of()), null, System.nanoTime())) {
                Journal journal = new Journal(each, ledger, new Stop(), Watch.NOBODY, null, null);
                ledger.write("slow", List.of(Ledger.whole("x", MemorySegment.ofArray(new byte[8]))), () -> await(disk));
                journal.hold(Map.of("full", MemorySegment.ofArray(states)));
                journal.between(new Trainer.Name("stage", 0), b.memory(), adam, new Journal.Mark(1, 0, 1, 1), 2);
                Thread failing = Thread.ofPlatform().start(() -> {
                    journal.left();
                    Arrays.fill(states, (byte) 0);
                });
                failing.join(200);
                disk.countDown();
                failing.join();
                ledger.finish();
            }
        }
        try (Stream<Path> files = Files.list(temp.resolve("checkpoints"))) {
            List<Path> chains = files.filter(f -> f.getFileName().toString().startsWith("chain-full")).toList();
            assertEquals(1, chains.size());
            try (Safetensors file = Safetensors.open(chains.getFirst())) {
                for (byte s : file.bytes("full").toArray(ValueLayout.JAVA_BYTE)) assertEquals(7, s);
            }
        }
        assertTrue(Arrays.equals(new byte[4096], states), "the memory was used again");
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
