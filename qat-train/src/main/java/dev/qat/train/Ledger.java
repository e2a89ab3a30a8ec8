package dev.qat.train;

import dev.qat.data.Safetensors;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.data.StoredType;
import dev.qat.train.Checkpoints.Manifest;
import dev.qat.train.Checkpoints.Piece;
import dev.qat.train.Checkpoints.Place;
import dev.qat.train.Checkpoints.Stored;
import dev.qat.train.Checkpoints.Unit;
import dev.qat.watch.Metrics;
import dev.qat.watch.Row;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.function.Supplier;

/**
 * What a run has behind it: loops that are done, rows that were judged, seconds of work; and the manifests that say so. Files are
 * written by a thread of their own ({@link Scribe}), in the order they are asked for.
 */
final class Ledger implements AutoCloseable {
    /** What must be the same when the run goes on, and what should be, for the same bytes. */
    record Identity(Map<String, String> fingerprint, Map<String, String> environment) {}

    private record Done(Trainer.Name name, Journal.Mark end, Future<Stored> file) {
        Unit unit() {
            return new Unit(name.stage(), name.block(), end.step(), end.first(), end.last(), Scribe.get(file));
        }
    }

    private final Checkpoints files;
    private final Metrics metrics;
    private final Identity identity;
    private final Scribe scribe = new Scribe();
    private final List<Done> done = new ArrayList<>();
    private final List<Row> rows = new ArrayList<>();
    private final long begun;
    private final double before;
    private double stageBefore;
    private long stageBegun = System.nanoTime();

    /** @param from the checkpoint the run goes on from; null for none  @param begun when this process began to work, by {@link System#nanoTime} */
    Ledger(Checkpoints files, Metrics metrics, Identity identity, Manifest from, long begun) {
        this.files = files;
        this.metrics = metrics;
        this.identity = identity;
        this.begun = begun;
        before = from == null ? 0 : from.seconds();
        stageBefore = from == null ? 0 : from.stageSeconds();
        if (from != null) rows.addAll(from.rows());
    }

    /** Rows judged so far, those of earlier processes included. */
    List<Row> rows() {
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
    void judged(Row row) {
        rows.add(row);
        stageBefore = 0;
    }

    /** How many loops are done. */
    int done() {
        return done.size();
    }

    /** The next loop is done and ended so; {@code file} holds what it is to leave to the processes to come, null where nothing is kept. */
    void done(Trainer.Name name, Journal.Mark end, Future<Stored> file) {
        done.add(new Done(name, end, file));
    }

    /** A file of the checkpoints to come, written when its turn comes; {@code after} runs then. */
    Future<Stored> write(String kind, List<Piece> pieces, Runnable after) {
        return scribe.write(() -> {
            try {
                return files.write(kind, pieces);
            } finally {
                after.run();
            }
        });
    }

    /** The same for what the next loop that is done leaves. */
    Future<Stored> writeUnit(List<Piece> pieces, Runnable after) {
        return write("unit-%04d".formatted(done.size()), pieces, after);
    }

    static Piece whole(String name, MemorySegment bytes) {
        return new Piece(new Slot(name, StoredType.U8, bytes.byteSize()), bytes);
    }

    /** The tensors of a stored file. */
    Safetensors open(Stored s) {
        return files.open(s);
    }

    /** A manifest of this moment, written once what it names is; its number.  @param place may write files itself */
    Future<Integer> commit(Supplier<Place> place) {
        List<Done> units = List.copyOf(done);
        List<Row> judged = List.copyOf(rows);
        long bytes = metrics.position();
        double seconds = seconds(), stage = stageSeconds();
        return scribe.write(() -> {
            Place p = place.get();
            metrics.force();
            return files.commit(new Manifest(Checkpoints.VERSION, identity.fingerprint, identity.environment, units.stream().map(Done::unit).toList(), p, judged, bytes, seconds, stage,
                    Instant.now().truncatedTo(ChronoUnit.SECONDS).toString()));
        });
    }

    /** For the supplier of {@link #commit}, which the scribe runs. */
    Stored writeNow(String kind, List<Piece> pieces) {
        return files.write(kind, pieces);
    }

    Path folder() {
        return files.folder();
    }

    /** Whether nothing is being written. */
    boolean idle() {
        return scribe.idle();
    }

    /** Throws what went wrong in the background, if anything did. */
    void check() {
        scribe.check();
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
