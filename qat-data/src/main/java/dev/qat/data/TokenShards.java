package dev.qat.data;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/**
 * Token ids on disk: a folder of shards {@code tokens-00000.bin, tokens-00001.bin, ..} that read as one long stream.
 *
 * <p>A shard is written once and never changed; more tokens are one more shard. Everything is little-endian:
 *
 * <pre>
 *  at  bytes
 *   0      8  magic "QATTOKEN"
 *   8      4  version, 1
 *  12      4  width of an id in bytes: 2 (vocabularies up to 65536) or 4
 *  16      8  count of ids
 *  24      4  vocabulary size: ids are below it
 *  28      4  zero
 *  32     32  SHA-256 of tokenizer and vocabulary size ({@link Vocabulary})
 *  64         count × width bytes of unsigned ids
 * </pre>
 */
public final class TokenShards implements AutoCloseable {
    private static final long MAGIC = ByteBuffer.wrap("QATTOKEN".getBytes()).order(ByteOrder.LITTLE_ENDIAN).getLong();
    private static final int VERSION = 1, HEADER = 64;
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private record Shard(Path file, MemorySegment ids, int width, long count) {}

    private final Arena arena = Arena.ofShared();
    private final Vocabulary vocabulary;
    private final List<Shard> shards;
    private final long count;

    private TokenShards(List<Path> files, Vocabulary vocabulary) {
        this.vocabulary = vocabulary;
        try {
            shards = files.stream().map(this::map).toList();
        } catch (RuntimeException e) {
            arena.close();
            throw e;
        }
        count = shards.stream().mapToLong(Shard::count).sum();
    }

    /** Opens a folder of shards, or one shard; they must have been made with this tokenizer for this vocabulary. */
    public static TokenShards open(Path folderOrFile, Vocabulary vocabulary) {
        List<Path> files = Files.isDirectory(folderOrFile) ? shardFiles(folderOrFile) : List.of(folderOrFile);
        if (files.isEmpty() || !Files.isRegularFile(files.getFirst())) {
            throw Fail.data("%s: no token shards (tokens-00000.bin, ..) there; tokenize a text or generate tokens first", folderOrFile);
        }
        return new TokenShards(files, vocabulary);
    }

    /** Opens these shards as one stream. */
    static TokenShards open(List<Path> files, Vocabulary vocabulary) {
        return new TokenShards(files, vocabulary);
    }

    /** Ids in all shards together. */
    public long count() {
        return count;
    }

    /** ids[offset .. offset+length) = the stream's ids from {@code from} on. */
    public void read(int[] ids, int offset, int length, long from) {
        Fail.unless(from >= 0 && length >= 0 && length <= count - from, "tokens %d to %d are read of %d", from, from + length, count);
        for (Shard s : shards) {
            int size = Math.clamp(s.count - from, 0, length);
            if (from < s.count) copy(ids, offset, size, s, from);
            offset += size;
            length -= size;
            from = Math.max(0, from - s.count);
        }
    }

    private void copy(int[] ids, int offset, int size, Shard s, long from) {
        for (int i = 0; i < size; i++) {
            long at = (from + i) * s.width;
            int id = s.width == 2 ? Short.toUnsignedInt(s.ids.get(SHORT, at)) : s.ids.get(INT, at);
            if (id < 0 || id >= vocabulary.size()) {
                throw Fail.data("%s: token %d is id %s, expected below %d; the shard is damaged: make it again",
                        s.file, from + i, Integer.toUnsignedString(id), vocabulary.size());
            }
            ids[offset + i] = id;
        }
    }

    /** A reader of the stream that starts at {@code position}, 0 or what {@link Cursor#position} once gave. */
    public Cursor cursor(long position) {
        if (position < 0 || position > count) {
            throw Fail.data("token position %d does not exist, the shards hold %d tokens; they are not those of the saved run", position, count);
        }
        return new Cursor(position);
    }

    /** A place in the stream. It does not wrap: who wants another pass asks for a cursor at 0. */
    public final class Cursor {
        private long position;

        private Cursor(long position) {
            this.position = position;
        }

        /** Ids taken so far: all there is to save. */
        public long position() {
            return position;
        }

        public long remaining() {
            return count - position;
        }

        /** Fills {@code ids} with the next ones; returns how many there were, fewer only at the end. */
        public int take(int[] ids) {
            int size = (int) Math.min(ids.length, remaining());
            read(ids, 0, size, position);
            position += size;
            return size;
        }
    }

    @Override
    public void close() {
        arena.close();
    }

    private Shard map(Path file) {
        try (FileChannel channel = FileChannel.open(file)) {
            MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
            return check(file, all);
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot map: %s; check its permissions", file, AtomicFile.why(e));
        }
    }

    private Shard check(Path file, MemorySegment all) {
        if (all.byteSize() < HEADER || all.asSlice(0, HEADER).asByteBuffer().order(ByteOrder.LITTLE_ENDIAN).getLong() != MAGIC) {
            throw Fail.data("%s: no token shard (it does not begin with QATTOKEN); make it again", file);
        }
        ByteBuffer h = all.asSlice(0, HEADER).asByteBuffer().order(ByteOrder.LITTLE_ENDIAN).position(8);
        int version = h.getInt(), width = h.getInt();
        long n = h.getLong(), bytes = all.byteSize() - HEADER;
        int size = h.getInt();
        byte[] fingerprint = new byte[32];
        h.get(32, fingerprint);
        if (version != VERSION || (width != 2 && width != 4)) {
            throw Fail.data("%s: version %d with %d-byte ids, expected version %d with 2 or 4; make it again", file, version, width, VERSION);
        }
        // Divided, not multiplied: a damaged count must not overflow into a match.
        if (bytes % width != 0 || bytes / width != n) {
            throw Fail.data("%s: holds %d bytes of ids, expected %d ids of %d bytes; it is truncated: make it again", file, bytes, n, width);
        }
        if (!Arrays.equals(fingerprint, vocabulary.fingerprint())) {
            throw Fail.data("%s: made with another tokenizer or vocabulary (size %d, this model has %d); tokenize the text again "
                    + "with this model", file, size, vocabulary.size());
        }
        return new Shard(file, all.asSlice(HEADER), width, n);
    }

    private static List<Path> shardFiles(Path folder) {
        try (Stream<Path> inside = Files.list(folder)) {
            return inside.filter(p -> p.getFileName().toString().matches("tokens-\\d{5}\\.bin")).sorted().toList();
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot list: %s; check its permissions", folder, AtomicFile.why(e));
        }
    }

    /** Writes the folder's next shard, which appears only with {@link #finish}. One writer a folder at a time. */
    public static final class Writer implements AutoCloseable {
        private final AtomicFile out;
        private final Path file;
        private final Vocabulary vocabulary;
        private final int width;
        private final ByteBuffer buffer = ByteBuffer.allocate(1 << 18).order(ByteOrder.LITTLE_ENDIAN);
        private long count;

        private Writer(Path file, Vocabulary vocabulary) {
            this.file = file;
            this.vocabulary = vocabulary;
            this.width = vocabulary.size() <= 1 << 16 ? 2 : 4;
            this.out = AtomicFile.open(file);
            buffer.putLong(MAGIC).putInt(VERSION).putInt(width).putLong(0).putInt(vocabulary.size()).putInt(0)
                    .put(vocabulary.fingerprint());
        }

        public static Writer open(Path folder, Vocabulary vocabulary) {
            try {
                Files.createDirectories(folder);
            } catch (IOException e) {
                throw Fail.io(e, "%s: cannot create the folder: %s; choose another", folder, AtomicFile.why(e));
            }
            List<Path> present = shardFiles(folder);
            int next = present.isEmpty() ? 0 : Integer.parseInt(present.getLast().getFileName().toString().substring(7, 12)) + 1;
            return at(folder, vocabulary, next);
        }

        /** The shard of a number, in place of any that is there. */
        static Writer at(Path folder, Vocabulary vocabulary, int number) {
            if (number > 99_999) throw Fail.usage("%s: shard %d, expected at most 99999; put more sequences into one (shard)", folder, number);
            return new Writer(folder.resolve("tokens-%05d.bin".formatted(number)), vocabulary);
        }

        /** Appends a sequence to the stream; where one ends and the next begins is for the ids (BOS, EOS) to say. */
        public void append(int[] ids) {
            for (int id : ids) {
                if (id < 0 || id >= vocabulary.size()) {
                    throw Fail.data("%s: cannot take token id %d, expected 0 to %d; tokenizer and model do not belong together",
                            file, id, vocabulary.size() - 1);
                }
                if (buffer.remaining() < width) drain();
                if (width == 2) buffer.putShort((short) id);
                else buffer.putInt(id);
            }
            count += ids.length;
        }

        /** Ends the shard and gives it its name. */
        public Path finish() {
            drain();
            out.patch(16, ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(count).flip());
            out.commit();
            return file;
        }

        @Override
        public void close() {
            out.close();
        }

        private void drain() {
            out.write(buffer.flip());
            buffer.clear();
        }
    }
}
