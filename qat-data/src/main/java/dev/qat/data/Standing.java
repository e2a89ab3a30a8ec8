package dev.qat.data;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Optional;

/**
 * Where a shard stands between two steps of its decoding: the sequences begun so far as far as they go, and which of them are in the
 * batch, in which row. A decoder that reads those again, each in its row, goes on as if it had never stopped.
 *
 * @param rows     the tokens of every sequence that has entered, in order  @param sequence the number of the sequence in a row of the batch, −1 for none
 * @param position how far that sequence is
 */
public record Standing(int shard, int[][] rows, int[] sequence, int[] position) {
    private static final int FORMAT = 0x71617431, HASH = 32;

    /** Tokens that stand. */
    public long tokens() {
        return Arrays.stream(rows).mapToLong(r -> r.length).sum();
    }

    /** Writes it for a set whose settings have this hash (64 hex digits); the file ends in a SHA-256 of what comes before. */
    void write(Path file, String settings) {
        int ints = 4 + 2 * sequence.length + rows.length + Math.toIntExact(tokens());
        ByteBuffer out = ByteBuffer.allocate(HASH + 4 * ints + HASH).put(hex(settings)).putInt(FORMAT).putInt(shard).putInt(rows.length).putInt(sequence.length);
        for (int[] part : new int[][] {sequence, position}) for (int i : part) out.putInt(i);
        for (int[] row : rows) {
            out.putInt(row.length);
            for (int id : row) out.putInt(id);
        }
        AtomicFile.write(file, out.put(hash(out.array(), out.position())).array());
    }

    /** Reads what {@link #write} wrote for the same settings; empty where there is nothing, or nothing whole, or another set's. */
    static Optional<Standing> read(Path file, String settings, int shard) throws IOException {
        if (!Files.isRegularFile(file)) return Optional.empty();
        byte[] all = Files.readAllBytes(file);
        int end = all.length - HASH;
        if (end < HASH + 16 || !Arrays.equals(hash(all, end), Arrays.copyOfRange(all, end, all.length)) || !Arrays.equals(hex(settings), Arrays.copyOf(all, HASH))) return Optional.empty();
        ByteBuffer in = ByteBuffer.wrap(all, HASH, end - HASH);
        if (in.getInt() != FORMAT || in.getInt() != shard) return Optional.empty();
        int[][] rows = new int[in.getInt()][];
        int[] sequence = new int[in.getInt()], position = new int[sequence.length];
        for (int[] part : new int[][] {sequence, position}) for (int i = 0; i < part.length; i++) part[i] = in.getInt();
        for (int n = 0; n < rows.length; n++) {
            rows[n] = new int[in.getInt()];
            for (int i = 0; i < rows[n].length; i++) rows[n][i] = in.getInt();
        }
        return Optional.of(new Standing(shard, rows, sequence, position));
    }

    private static byte[] hash(byte[] bytes, int count) {
        return new Sha256().add(MemorySegment.ofArray(bytes).asSlice(0, count)).bytes();
    }

    private static byte[] hex(String digits) {
        return HexFormat.of().parseHex(digits);
    }
}
