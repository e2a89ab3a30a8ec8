package dev.qat.watch;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;

/**
 * A run as TensorBoard shows it: one folder of event files per stage under tensorboard/, with the names people look for
 * (train/loss, block/3/recon_loss, eval/ppl), and of every linear the histogram of its codes, its share of dead weights (codes that
 * stand for 0) and the histogram of that share over its groups. A resumed run writes it anew, earlier steps too
 * ({@link Metrics#show}), so that none is there twice.
 */
public final class Board implements Onlooker {
    private static final long SHOWN = 5_000_000_000L; // nanoseconds between two flushes

    private final Path folder;
    private final Consumer<Path> make;
    private final Map<String, EventFile> files = new HashMap<>();
    private long shown = System.nanoTime();

    /** Removes the event files of an earlier process.  @param make makes a folder in the run's directory where there is none yet */
    public Board(Path run, Consumer<Path> make) {
        folder = run.resolve("tensorboard");
        this.make = make;
        try {
            clear();
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot remove the event files of an earlier process: %s", folder, e);
        }
    }

    private void clear() throws IOException {
        if (!Files.isDirectory(folder)) return;
        try (Stream<Path> all = Files.walk(folder, 2)) {
            for (Path f : all.filter(f -> f.getFileName().toString().startsWith("events.out.tfevents.")).toList()) Files.delete(f);
        }
    }

    private EventFile of(String stage) {
        return files.computeIfAbsent(stage, name -> {
            make.accept(folder);
            make.accept(folder.resolve(name));
            return new EventFile(folder.resolve(name));
        });
    }

    @Override
    public void step(String stage, int block, long step, double loss, double norm, double rate, Map<String, Double> more) {
        EventFile f = of(stage);
        String at = block < 0 ? "train/" : "block/" + block + "/";
        f.scalar(at + (block < 0 ? "loss" : "recon_loss"), step, loss);
        f.scalar(at + "grad_norm", step, norm);
        f.scalar(at + "lr", step, rate);
        more.forEach((name, value) -> f.scalar(name, step, value));
        if (System.nanoTime() - shown < SHOWN) return;
        shown = System.nanoTime();
        f.flush();
    }

    @Override
    public void judged(Row row) {
        EventFile f = of(row.name());
        f.scalar("eval/ppl", 0, row.perplexity());
        f.scalar("eval/kl", 0, row.kl());
        f.scalar("eval/top1", 0, row.top1());
        f.scalar("eval/bits_per_weight", 0, row.bitsPerWeight());
        f.flush();
    }

    /** What every linear's codes say of it. */
    public void codes(String stage, Iterable<PackedWeight> packed, Memory memory) {
        EventFile f = of(stage);
        long dead = 0, all = 0;
        for (PackedWeight p : packed) {
            CodeCount c = CodeCount.of(p, memory);
            f.histogram("codes/" + p.name(), 0, c.codes(), 1);
            f.histogram("dead_zone_of_groups/" + p.name(), 0, c.groups(), 1.0 / CodeCount.BINS);
            f.scalar("dead_zone/" + p.name(), 0, (double) c.dead() / c.all());
            dead += c.dead();
            all += c.all();
        }
        if (all > 0) f.scalar("dead_zone", 0, (double) dead / all);
        f.flush();
    }

    @Override
    public void close() {
        files.values().forEach(EventFile::close);
    }
}
