package dev.qat.export;

import java.nio.file.Path;

/** Writes a finished model in one format; what does not fit is refused before a byte is written. */
public interface Exporter {
    /** Whether the target is a directory; else it is a file. */
    boolean directory();

    Report write(Path target, Frozen model);
}
