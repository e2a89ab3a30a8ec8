package dev.qat.train;

import dev.qat.data.Safetensors;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory;
import dev.qat.train.Checkpoints.Manifest;
import dev.qat.train.Checkpoints.Piece;
import dev.qat.train.Checkpoints.Place;
import dev.qat.train.Checkpoints.Stored;
import dev.qat.train.Checkpoints.Unit;
import dev.qat.watch.Heart;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.function.Supplier;
import java.util.stream.IntStream;

/**
 * How far a run has come, kept so that it can go on after its process died.
 *
 * <p>A run is a fixed sequence of loops: a {@link Trainer}'s, whose steps train; a {@link Pass} of hidden states through a block, whose
 * steps are batches. Everything between them follows from the recipe and from what they left. So a resumed run goes through its stages
 * again from the start: a loop that was finished takes the values it ended with from a file and makes no step, the one that was
 * interrupted takes what it stood on and its position from the checkpoint and goes on, and rows of the table that were judged are not
 * judged again. A stage needs no code for any of it.
 */
final class Journal {
    /** A loop's position: what {@link Trainer} counts. */
    record Mark(long step, int attempt, double first, double last) {
        static final Mark START = new Mark(0, 0, Double.NaN, Double.NaN), NOTHING = new Mark(0, 0, 0, 0);
    }

    private final Recipe.Checkpoint config;
    private final Ledger ledger;
    private final Stop stop;
    private final Watch watch;
    private final Heart heart;
    private final List<Unit> finished;
    /** Where the checkpoint was taken that this run goes on from, until the run has come there; null for nowhere. */
    private Place place;
    /** The pass that brought the chains to where they are, complete; null where what comes next does not stand on them. */
    private Pass carried;
    private Map<String, MemorySegment> chains = Map.of();
    private Map<String, Future<Stored>> chainFiles = Map.of();
    private long kept = System.nanoTime();
    private double copying;
    private int copies;

    /** @param from the checkpoint this run goes on from; null for a fresh one */
    Journal(Recipe.Checkpoint config, Ledger ledger, Stop stop, Watch watch, Manifest from, Heart heart) {
        this.config = config;
        this.ledger = ledger;
        this.stop = stop;
        this.watch = watch;
        this.heart = heart;
        finished = from == null ? List.of() : from.finished();
        place = from == null ? null : from.place();
    }

    /** Of a run that only plans: nothing is kept and nothing was. */
    static Journal none() {
        return new Journal(new Recipe.Checkpoint(0, 0, 0, Recipe.Resume.NEVER), new Ledger(null, null, null, null, System.nanoTime()), new Stop(), Watch.NOBODY, null, null);
    }

    /** What the run has behind it. */
    Ledger ledger() {
        return ledger;
    }

    /** Whether the next loop was finished by an earlier process. */
    boolean past() {
        return ledger.done() < finished.size();
    }

    /** Whether an earlier process was interrupted before it finished the next loop, at a place this one has not come to yet. */
    boolean here() {
        return ledger.done() == finished.size() && place != null;
    }

    /** The same for a loop that is about to begin, where the run may end as anywhere. */
    private boolean behind() {
        if (past()) pause("on the way to where the run was");
        return past();
    }

    // ---- a pass of hidden states ---------------------------------------------------------------------------------------

    /** The batch a pass goes on at, states and sums as they were then; its end where it lies behind what an earlier process did. */
    int begin(Pass p) {
        if (behind()) return p.batches();
        if (!here()) return 0;
        if (!place.stage().equals(p.name().stage()) || place.block() != p.name().block()) return p.batches();
        Fail.unless(place.steps() == p.batches(), "the checkpoint holds %d batches of %s where the run has %d", place.steps(), p.name(), p.batches());
        p.states().get().forEach(this::restore);
        try (Safetensors file = ledger.open(place.file())) {
            p.restoreSums(file);
        }
        watch.say("resumed at batch %d of %d of %s".formatted(place.step(), place.steps(), p.name()));
        int batch = (int) place.step();
        place = null;
        if (batch == p.batches()) carried = p;
        return batch;
    }

    /** Before a batch: makes a checkpoint if one is due, and ends the run if that was asked for. */
    void between(Pass p, int batch) {
        ledger.check();
        carried = null;
        boolean steps = config.steps() > 0 && batch > 0 && batch % config.steps() == 0;
        if (stop.wish() != null) throw stopped(stop.wish(), "at batch %d of %d of %s".formatted(batch, p.batches(), p.name()), config.keep() == 0 ? null : keep(p, batch));
        if (config.keep() > 0 && (due() || steps)) Scribe.get(keep(p, batch)); // the next batch changes the states
    }

    /** So many batches have passed. */
    void passed(Pass p, int batches) {
        heart.beat(p.name().stage(), p.name().block(), batches, p.batches(), Double.NaN, Double.NaN, Double.NaN, ledger.seconds());
        if (batches == p.batches()) carried = p;
    }

    private Future<Integer> keep(Pass p, int batch) {
        Map<String, MemorySegment> states = p.states().get();
        List<Piece> sums = p.sums();
        Future<Integer> written = ledger.commit(() -> {
            Map<String, Stored> stored = new LinkedHashMap<>();
            states.forEach((chain, bytes) -> stored.put(chain, ledger.writeNow("chain-" + chain, List.of(Ledger.whole(chain, bytes)))));
            return new Place(p.name().stage(), p.name().block(), batch, p.batches(), 0, 0, 0, 0, ledger.writeNow("state", sums), stored);
        });
        kept = System.nanoTime();
        return written;
    }

    /** Fills a chain as it was at the place of the checkpoint. */
    private void restore(String name, MemorySegment chain) {
        Stored s = place.chains().get(name);
        Fail.unless(s != null, "the checkpoint holds no %s", name);
        try (Safetensors file = ledger.open(s)) {
            Fail.unless(file.bytes(name).byteSize() == chain.byteSize(), "%s: %s has %d bytes, expected %d", s.name(), name, file.bytes(name).byteSize(), chain.byteSize());
            chain.copyFrom(file.bytes(name));
        }
    }

    // ---- a loop that trains --------------------------------------------------------------------------------------------

    /** What the next loop stands on beside what it trains, as it was where the loop goes on: constant until {@link #release}, and written at most once. */
    void hold(Map<String, MemorySegment> constant) {
        carried = null;
        chains = constant;
        chainFiles = new LinkedHashMap<>();
        if (!here()) return;
        chains.forEach(this::restore);
        place.chains().forEach((name, s) -> chainFiles.put(name, Scribe.ready(s)));
    }

    /** From here on the chains may change. */
    void release() {
        chainFiles.values().forEach(Scribe::get);
        chains = Map.of();
        chainFiles = Map.of();
    }

    /** Puts a loop where it was, and says where that is. */
    Mark begin(Trainer.Name name, Memory memory, AdamW adam, long total) {
        if (behind()) {
            Unit u = finished.get(ledger.done());
            fits(name, total, u.stage(), u.block(), u.steps());
            try (Safetensors file = ledger.open(u.file())) {
                Snapshot.restore(memory, adam, file, false);
            }
            return new Mark(total, 0, u.first(), u.last());
        }
        if (!here()) return Mark.START;
        fits(name, total, place.stage(), place.block(), place.steps());
        try (Safetensors file = ledger.open(place.file())) {
            Snapshot.restore(memory, adam, file, true);
        }
        adam.steps(place.adam());
        watch.say("resumed at step %d of %d of %s".formatted(place.step(), place.steps(), name));
        return new Mark(place.step(), place.attempt(), place.first(), place.last());
    }

    private static void fits(Trainer.Name name, long total, String stage, int block, long steps) {
        Fail.unless(name.stage().equals(stage) && name.block() == block && total == steps, "the checkpoint holds %d steps of %s (block %d) where the run has %d of %s (block %d)",
                steps, stage, block, total, name.stage(), name.block());
    }

    /** A step is taken: says so to whoever watches from outside. */
    void stepped(Trainer.Name name, long step, long steps, double loss, double rate, double secondsPerStep) {
        heart.beat(name.stage(), name.block(), step, steps, loss, rate, secondsPerStep, ledger.seconds());
    }

    /** Whether there is something to do {@link #between} two steps: then the numbers of every step before have to be seen first. */
    boolean wants(long step, long total) {
        ledger.check();
        if (stop.asked()) return true;
        boolean steps = config.steps() > 0 && step > 0 && step < total && step % config.steps() == 0;
        boolean resumedHere = here() && step == place.step();
        return config.keep() > 0 && (due() || steps) && !resumedHere;
    }

    /** Between two steps: makes a checkpoint, and ends the run if that was asked for. */
    void between(Trainer.Name name, Memory memory, AdamW adam, Mark mark, long total) {
        String wish = stop.wish();
        Future<Integer> written = config.keep() == 0 ? null : keep(name, memory, adam, mark, total);
        if (wish != null) throw stopped(wish, "at step %d of %d of %s".formatted(mark.step, total, name), written);
    }

    private Future<Integer> keep(Trainer.Name name, Memory memory, AdamW adam, Mark mark, long total) {
        long start = System.nanoTime();
        Snapshot copy = Snapshot.of(memory, adam);
        chains.forEach((chain, bytes) -> chainFiles.computeIfAbsent(chain, _ -> ledger.write("chain-" + chain, List.of(Ledger.whole(chain, bytes)), () -> {})));
        Map<String, Future<Stored>> chainsNow = new LinkedHashMap<>(chainFiles);
        long adamSteps = adam.steps();
        Future<Integer> written = ledger.commit(() -> {
            try (copy) {
                Stored state = ledger.writeNow("state", copy.pieces());
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

    /** A loop is done: what it trained is kept for the processes to come. */
    void end(Trainer.Name name, Memory memory, AdamW adam, Mark mark) {
        Future<Stored> file;
        if (past()) {
            file = Scribe.ready(finished.get(ledger.done()).file());
        } else if (config.keep() == 0) {
            file = Scribe.ready(null);
        } else {
            Snapshot copy = Snapshot.ofValues(memory, adam);
            file = ledger.writeUnit(copy.pieces(), copy::close);
        }
        ledger.done(name, mark, file);
    }

    // ---- between loops -------------------------------------------------------------------------------------------------

    /**
     * Work that no optimizer does, such as a block's calibration: what it found, from an earlier process where that was done, else
     * made now and kept as a loop's values are.
     */
    List<MemorySegment> once(Trainer.Name name, Supplier<List<MemorySegment>> work) {
        if (behind()) {
            Unit u = finished.get(ledger.done());
            fits(name, 0, u.stage(), u.block(), u.steps());
            ledger.done(name, Mark.NOTHING, Scribe.ready(u.file()));
            try (Safetensors file = ledger.open(u.file())) {
                return IntStream.range(0, file.names().size()).mapToObj(i -> MemorySegment.ofArray(file.bytes("" + i).toArray(ValueLayout.JAVA_BYTE))).toList();
            }
        }
        List<MemorySegment> found = work.get();
        if (here()) throw Fail.internal("the checkpoint was taken in %s, block %d, to which this run did not come before the end of %s", place.stage(), place.block(), name);
        List<Piece> pieces = IntStream.range(0, found.size()).mapToObj(i -> Ledger.whole("" + i, MemorySegment.ofArray(found.get(i).toArray(ValueLayout.JAVA_BYTE)))).toList();
        ledger.done(name, Mark.NOTHING, config.keep() == 0 ? Scribe.ready(null) : ledger.writeUnit(pieces, () -> {}));
        boolean alone = carried == null; // else the next pass is where the run may end, with the chain it goes on from
        carried = null;
        if (!alone) return found;
        if (stop.wish() == null && config.keep() > 0 && (due() || config.steps() > 0)) {
            ledger.commit(() -> null);
            kept = System.nanoTime();
        }
        pause("after block " + name.block() + " of " + name.stage());
        return found;
    }

    /** Whether it is time for a checkpoint, and none is being written. */
    private boolean due() {
        return config.minutes() > 0 && System.nanoTime() - kept >= config.minutes() * 60e9 && ledger.idle();
    }

    /** Where nothing trains: ends the run if that was asked for. */
    void pause(String where) {
        heart.beat();
        ledger.check();
        String wish = stop.wish();
        if (wish == null) return;
        if (past() || here()) throw Fail.again("%s %s: stopped. Run the same command again to go on.", wish, where);
        throw stopped(wish, where, config.keep() == 0 ? null : carried != null ? keep(carried, carried.batches()) : ledger.commit(() -> null));
    }

    /** The chains are about to go, perhaps because the run failed: what is being written of them is written first, or a whole checkpoint would hold what lies there next. */
    void left() {
        carried = null;
        release();
    }

    private Fail stopped(String wish, String where, Future<Integer> written) {
        if (written == null) return Fail.again("%s %s: stopped. The recipe keeps no checkpoints (checkpoint.keep), so the run begins anew when run again.", wish, where);
        return Fail.again("%s %s: checkpoint %d is written to %s. Run the same command again to go on.", wish, where, Scribe.get(written), ledger.folder());
    }

    /** Seconds that steps waited for copies, and how many copies there were. */
    String cost() {
        return copies == 0 ? "" : "%d checkpoints held the steps for %.3f s in all".formatted(copies, copying);
    }
}
