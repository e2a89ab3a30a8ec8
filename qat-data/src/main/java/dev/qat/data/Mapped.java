package dev.qat.data;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;

/** Opens files that are read where they lie, mapped into memory. */
final class Mapped {
    /** Makes a reader of a whole file; the arena is the reader's to close. */
    @FunctionalInterface
    interface Reader<T> {
        T of(Arena arena, MemorySegment whole);
    }

    private Mapped() {}

    /** @param suffix what such files are called, without the dot; a reader that fails leaves nothing open */
    static <T> T open(Path file, String suffix, Reader<T> reader) {
        if (!Files.isRegularFile(file)) throw Fail.data("%s: no such file, expected a .%s file; check the path", file, suffix);
        Arena arena = Arena.ofShared();
        try (FileChannel channel = FileChannel.open(file)) {
            return reader.of(arena, channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena));
        } catch (IOException e) {
            arena.close();
            throw Fail.io(e, "%s: cannot map: %s; check its permissions", file, AtomicFile.why(e));
        } catch (RuntimeException e) {
            arena.close();
            throw e;
        }
    }
}
