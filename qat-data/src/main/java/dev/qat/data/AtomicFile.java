package dev.qat.data;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A file that appears under its name only when it is whole: temporary name in the same folder, fsync, rename, fsync of the
 * folder.
 *
 * <p>{@code try (var out = AtomicFile.open(target)) { out.write(bytes); out.commit(); }} Leaving the block without
 * {@link #commit} removes the temporary file and leaves what stood under the name untouched. Only a killed process can leave
 * a temporary file (named {@code .NAME.*.tmp}) behind.
 */
public final class AtomicFile implements AutoCloseable {
    // A heap segment written in one call would be copied to a direct buffer of the same size first.
    private static final int CHUNK = 4 << 20;

    private final Path target, temporary;
    private final FileChannel channel;
    private boolean committed;

    private AtomicFile(Path target, Path temporary, FileChannel channel) {
        this.target = target;
        this.temporary = temporary;
        this.channel = channel;
    }

    /** Writes text as UTF-8. */
    public static void write(Path target, String text) {
        write(target, text.getBytes(StandardCharsets.UTF_8));
    }

    public static void write(Path target, byte[] bytes) {
        try (AtomicFile out = open(target)) {
            out.write(MemorySegment.ofArray(bytes));
            out.commit();
        }
    }

    public static AtomicFile open(Path target) {
        Path whole = target.toAbsolutePath();
        Path temporary = temporarySibling(whole);
        try {
            return new AtomicFile(whole, temporary,
                    FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot create a file in %s: %s; create the folder or choose one you may write to",
                    target, whole.getParent(), why(e));
        }
    }

    /** Appends the bytes of a segment of any size. */
    public void write(MemorySegment bytes) {
        for (long at = 0; at < bytes.byteSize(); at += CHUNK) {
            MemorySegment chunk = bytes.asSlice(at, Math.min(CHUNK, bytes.byteSize() - at));
            // An int[] or float[] has no view as bytes, only a copy.
            write(chunk.isNative() ? chunk.asByteBuffer() : ByteBuffer.wrap(chunk.toArray(ValueLayout.JAVA_BYTE)));
        }
    }

    public void write(ByteBuffer bytes) {
        try {
            while (bytes.hasRemaining()) channel.write(bytes);
        } catch (IOException e) {
            throw cannotWrite(e);
        }
    }

    /** Overwrites bytes already written, for a header that is known only at the end. */
    public void patch(long position, ByteBuffer bytes) {
        try {
            while (bytes.hasRemaining()) position += channel.write(bytes, position);
        } catch (IOException e) {
            throw cannotWrite(e);
        }
    }

    /** Makes the bytes durable and gives the file its name; nothing may be written afterwards. */
    public void commit() {
        try {
            channel.force(true);
            channel.close();
            Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
            committed = true;
            syncFolder(target.getParent());
        } catch (IOException e) {
            throw cannotWrite(e);
        }
    }

    @Override
    public void close() {
        if (committed) return;
        try (channel) { // a network disk may report "full" only when closing; the file is gone by then
            Files.deleteIfExists(temporary);
        } catch (IOException e) {
            // The caller is already failing with the cause; a leftover temporary file must not hide it.
            System.err.println("qat: could not remove the temporary file " + temporary + ": " + why(e));
        }
    }

    private Fail cannotWrite(IOException e) {
        return Fail.io(e, "%s: cannot write: %s; free disk space or choose another folder, then run again", target, why(e));
    }

    /** A name beside the target that no other writer uses. */
    static Path temporarySibling(Path target) {
        long draw = ThreadLocalRandom.current().nextLong();
        return target.resolveSibling(".%s.%d-%016x.tmp".formatted(target.getFileName(), ProcessHandle.current().pid(), draw));
    }

    /** Makes a rename inside a folder durable. */
    static void syncFolder(Path folder) throws IOException {
        try (FileChannel f = FileChannel.open(folder, StandardOpenOption.READ)) {
            f.force(true);
        }
    }

    /** An I/O exception in a few words, without the path its message often repeats. */
    static String why(IOException e) {
        return switch (e) {
            case NoSuchFileException _ -> "no such file or folder";
            case AccessDeniedException _ -> "permission denied";
            case FileAlreadyExistsException _ -> "it already exists";
            case NotDirectoryException _ -> "not a folder";
            case FileSystemException f when f.getReason() != null -> f.getReason();
            default -> e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        };
    }
}
