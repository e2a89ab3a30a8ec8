package dev.qat.model;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assumptions;

/** The real models and texts, which are not part of the repository; a test that needs one and lacks it says so aloud. */
public final class Shared {
    private Shared() {}

    public static Path asset(String name) {
        Path path = Path.of(System.getProperty("qat.shared", "shared-not-given")).resolve("assets").resolve(name);
        if (!Files.exists(path)) {
            System.err.println("SKIPPED: " + path + " is missing; run with -Dqat.shared=FOLDER to test against the real files");
            Assumptions.abort(path + " is missing");
        }
        return path;
    }
}
