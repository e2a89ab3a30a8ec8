package dev.qat.train;

import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.train.Checkpoints.Manifest;
import dev.qat.train.Checkpoints.Piece;
import dev.qat.train.Checkpoints.Place;
import dev.qat.train.Checkpoints.Stored;
import dev.qat.train.Checkpoints.Unit;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.function.Supplier;
import java.util.stream.IntStream;

/**
 * How far a run has come, kept so that it can go on after its process died.
 *
 * <p>A run is a fixed sequence of loops, each a {@link Trainer}'s; everything between them follows from the recipe and from what
 * the loops trained. So a resumed run goes through its stages again from the start: a loop that was finished takes the values it
 * ended with from a file and makes no step, the one that was interrupted takes values, moments and position from the checkpoint
 * and goes on, and rows of the table that were judged are not judged again. A stage needs no code for any of it.
 *
 * <p>Files are written by a thread of their own ({@link Scribe}); a step waits for no more than the copy.
 */
final class Journal implements AutoCloseable {
    /** A loop's position: what {@link Trainer} counts. */
    record Mark(long step, int attempt, double first, double last) {
        static final Mark START = new Mark(0, 0, Double.NaN, Double.NaN);
    }

    private record Done(String stage, int block, long steps, double first, double last, Future<Stored> file) {
        Unit unit() {
            return new Unit(stage, block, steps, first, last, Scribe.get(file));
        }
    }

    private final Recipe.Checkpoint config;
    private final Checkpoints files;
    private final Scribe scribe;
    private final Stop stop;
    private final Watch watch;
    private final Metrics metrics;
    private final Map<String, String> fingerprint, environment;
    /** The checkpoint this run goes on from; null for a fresh one. */
    private final Manifest from;
    private final Heart heart;
    private final List<Runner.Row> rows = new ArrayList<>();
    private final List<Done> done = new ArrayList<>();
    private Map<String, MemorySegment> chains = Map.of();
    private Map<String, Future<Stored>> chainFiles = Map.of();
    private double before, stageBefore;
    private final long begun;
    private long stageBegun = System.nanoTime(), kept = stageBegun;
    private double copying;
    private int copies;

    Journal(Recipe.Checkpoint config, Checkpoints files, Stop stop, Watch watch, Metrics metrics, Map<String, String> fingerprint, Map<String, String> environment, Manifest from, Heart heart, long begun) {
        this.config = config;
        this.files = files;
        this.scribe = new Scribe();
        this.stop = stop;
        this.watch = watch;
        this.metrics = metrics;
        this.fingerprint = fingerprint;
        this.environment = environment;
        this.from = from;
        this.heart = heart;
        this.begun = begun;
        if (from != null) {
            rows.addAll(from.rows());
            before = from.seconds();
            stageBefore = from.stageSeconds();
        }
    }

    /** Of a run that only plans: nothing is kept and nothing was. */
    static Journal none() {
        return new Journal(new Recipe.Checkpoint(0, 0, 0, Recipe.Resume.NEVER), null, new Stop(), Watch.NOBODY, null, Map.of(), Map.of(), null, null, System.nanoTime());
    }

    // ---- the run -----------------------------------------------------------------------------------------------------

    /** Rows judged so far, those of earlier processes included. */
    List<Runner.Row> rows() {
        return rows;
    }

    /** Seconds of work of all processes together. */
    double seconds() {
        return before + (System.nanoTime() - begun) * 1e-9;
    }

    double stageSeconds() {
        return stageBefore + (System.nanoTime() - stageBegun) * 1e-9;
    }

    void stageBegins() {
        stageBegun = System.nanoTime();
    }

    /** A stage is over: its row stands. */
    void judged(Runner.Row row) {
        rows.add(row);
        stageBefore = 0;
    }

    // ---- what a block-wise driver keeps --------------------------------------------------------------------------------

    /** Whether the next loop was finished by an earlier process. */
    boolean past() {
        return from != null && done.size() < from.finished().size();
    }

    /** Whether the next loop is the one an earlier process was interrupted in. */
    boolean here() {
        return from != null && done.size() == from.finished().size() && from.place() != null;
    }

    /** Fills a chain as it was when the next loop began. */
    void restore(String name, MemorySegment chain) {
        Stored s = from.place().chains().get(name);
        Fail.unless(s != null, "the checkpoint holds no %s", name);
        try (Safetensors file = files.open(s)) {
            Fail.unless(file.bytes(name).byteSize() == chain.byteSize(), "%s: %s has %d bytes, expected %d", s.name(), name, file.bytes(name).byteSize(), chain.byteSize());
            chain.copyFrom(file.bytes(name));
        }
    }

    /** What the next loop stands on beside what it trains: constant until {@link #release}, and written at most once. */
    void hold(Map<String, MemorySegment> constant) {
        chains = constant;
        chainFiles = new LinkedHashMap<>();
        if (here()) from.place().chains().forEach((name, s) -> chainFiles.put(name, Scribe.ready(s)));
    }

    /** From here on the chains may change. */
    void release() {
        chainFiles.values().forEach(Scribe::get);
        chains = Map.of();
        chainFiles = Map.of();
    }

    // ---- a loop --------------------------------------------------------------------------------------------------------

    /** Puts a loop where it was, and says where that is. */
    Mark begin(Trainer.Name name, Memory memory, AdamW adam, long total) {
        if (past()) {
            Unit u = from.finished().get(done.size());
            fits(name, total, u.stage(), u.block(), u.steps());
            try (Safetensors file = files.open(u.file())) {
                Snapshot.restore(memory, adam, file, false);
            }
            return new Mark(total, 0, u.first(), u.last());
        }
        if (!here()) return Mark.START;
        Place p = from.place();
        fits(name, total, p.stage(), p.block(), p.steps());
        try (Safetensors file = files.open(p.file())) {
            Snapshot.restore(memory, adam, file, true);
        }
        adam.steps(p.adam());
        watch.say("resumed at step %d of %d of %s%s".formatted(p.step(), p.steps(), p.stage(), p.block() < 0 ? "" : ", block " + p.block()));
        return new Mark(p.step(), p.attempt(), p.first(), p.last());
    }

    private static void fits(Trainer.Name name, long total, String stage, int block, long steps) {
        Fail.unless(name.stage().equals(stage) && name.block() == block && total == steps, "the checkpoint holds %d steps of %s (block %d) where the run has %d of %s (block %d)",
                steps, stage, block, total, name.stage(), name.block());
    }

    /** A step is taken: says so to whoever watches from outside. */
    void stepped(Trainer.Name name, long step, long steps, double loss, double rate, double secondsPerStep) {
        heart.beat(name, step, steps, loss, rate, secondsPerStep, seconds());
    }

    /** Whether there is something to do {@link #between} two steps: then the numbers of every step before have to be seen first. */
    boolean wants(long step, long total) {
        scribe.check();
        if (stop.asked()) return true;
        boolean steps = config.steps() > 0 && step > 0 && step < total && step % config.steps() == 0;
        boolean resumedHere = here() && step == from.place().step();
        return config.keep() > 0 && (due() || steps) && !resumedHere;
    }

    /** Between two steps: makes a checkpoint, and ends the run if that was asked for. */
    void between(Trainer.Name name, Memory memory, AdamW adam, Mark mark, long total) {
        String wish = stop.wish();
        if (config.keep() == 0) {
            throw Fail.again("%s at step %d of %s: stopped. The recipe keeps no checkpoints (checkpoint.keep), so the run begins anew when run again.", wish, mark.step, name.stage());
        }
        Future<Integer> written = keep(name, memory, adam, mark, total);
        if (wish != null) throw stopped(wish, "step %d of %d of %s%s".formatted(mark.step, total, name.stage(), name.block() < 0 ? "" : ", block " + name.block()), written);
    }

    private Future<Integer> keep(Trainer.Name name, Memory memory, AdamW adam, Mark mark, long total) {
        long start = System.nanoTime();
        Snapshot copy = Snapshot.of(memory, adam);
        chains.forEach((chain, bytes) -> chainFiles.computeIfAbsent(chain, _ -> scribe.write(() -> files.write("chain-" + chain, List.of(whole(chain, bytes))))));
        Map<String, Future<Stored>> chainsNow = new LinkedHashMap<>(chainFiles);
        long adamSteps = adam.steps();
        Future<Integer> written = commit(() -> {
            try (copy) {
                Stored state = files.write("state", copy.pieces());
                Map<String, Stored> stored = new LinkedHashMap<>();
                chainsNow.forEach((chain, file) -> stored.put(chain, Scribe.get(file)));
                return new Place(name.stage(), name.block(), mark.step, total, adamSteps, mark.attempt, mark.first, mark.last, state, stored);
            }
        });
        kept = System.nanoTime();
        copying += (kept - start) * 1e-9;
        copies++;
        return written;
    }

    private static Piece whole(String name, MemorySegment bytes) {
        return new Piece(new Slot(name, StoredType.U8, bytes.byteSize()), bytes);
    }

    /** A manifest of this moment, written once what it names is. */
    private Future<Integer> commit(Supplier<Place> place) {
        List<Done> units = List.copyOf(done);
        List<Runner.Row> judged = List.copyOf(rows);
        long bytes = metrics.position();
        double seconds = seconds(), stage = stageSeconds();
        return scribe.write(() -> {
            Place p = place.get();
            metrics.force();
            return files.commit(new Manifest(Checkpoints.VERSION, fingerprint, environment, units.stream().map(Done::unit).toList(), p, judged, bytes, seconds, stage,
                    Instant.now().truncatedTo(ChronoUnit.SECONDS).toString()));
        });
    }

    private Fail stopped(String wish, String where, Future<Integer> written) {
        int number = Scribe.get(written);
        return Fail.again("%s at %s: checkpoint %d is written to %s. Run the same command again to go on.", wish, where, number, files.folder());
    }

    /**
     * Work that no optimizer does, such as a block's calibration: what it found, from an earlier process where that was done, else
     * made now and kept as a loop's values are. The run may end behind it.
     */
    List<MemorySegment> once(Trainer.Name name, Supplier<List<MemorySegment>> work) {
        if (past()) {
            Unit u = from.finished().get(done.size());
            fits(name, 0, u.stage(), u.block(), u.steps());
            done.add(new Done(name.stage(), name.block(), 0, 0, 0, Scribe.ready(u.file())));
            try (Safetensors file = files.open(u.file())) {
                return IntStream.range(0, file.names().size()).mapToObj(i -> MemorySegment.ofArray(file.bytes("" + i).toArray(ValueLayout.JAVA_BYTE))).toList();
            }
        }
        List<MemorySegment> found = work.get();
        List<Piece> pieces = IntStream.range(0, found.size()).mapToObj(i -> whole("" + i, MemorySegment.ofArray(found.get(i).toArray(ValueLayout.JAVA_BYTE)))).toList();
        String kind = "unit-%04d".formatted(done.size());
        done.add(new Done(name.stage(), name.block(), 0, 0, 0, config.keep() == 0 ? Scribe.ready(null) : scribe.write(() -> files.write(kind, pieces))));
        if (stop.wish() == null && config.keep() > 0 && (due() || config.steps() > 0)) {
            commit(() -> null);
            kept = System.nanoTime();
        }
        pause("after block " + name.block() + " of " + name.stage());
        return found;
    }

    /** Whether it is time for a checkpoint, and none is being written. */
    private boolean due() {
        return config.minutes() > 0 && System.nanoTime() - kept >= config.minutes() * 60e9 && scribe.idle();
    }

    /** Between two loops, where nothing trains: ends the run if that was asked for. */
    void pause(String where) {
        scribe.check();
        String wish = stop.wish();
        if (wish == null) return;
        if (config.keep() == 0 || past() || here()) throw Fail.again("%s %s: stopped. Run the same command again to go on.", wish, where);
        throw stopped(wish, where, commit(() -> null));
    }

    /** A loop is done: what it trained is kept for the processes to come. */
    void end(Trainer.Name name, Memory memory, AdamW adam, Mark mark) {
        Future<Stored> file;
        if (past()) {
            file = Scribe.ready(from.finished().get(done.size()).file());
        } else if (config.keep() == 0) {
            file = Scribe.ready(null);
        } else {
            Snapshot copy = Snapshot.ofValues(memory, adam);
            String kind = "unit-%04d".formatted(done.size());
            file = scribe.write(() -> {
                try (copy) {
                    return files.write(kind, copy.pieces());
                }
            });
        }
        done.add(new Done(name.stage(), name.block(), mark.step, mark.first, mark.last, file));
    }

    /** Seconds that steps waited for copies, and how many copies there were. */
    String cost() {
        return copies == 0 ? "" : "%d checkpoints held the steps for %.3f s in all".formatted(copies, copying);
    }

    /** Waits until all is written: no file may come after the checkpoints of a finished run are cleared away. */
    void finish() {
        scribe.close();
        scribe.check();
    }

    @Override
    public void close() {
        scribe.close();
    }
}
