package dev.qat.export;

import dev.qat.data.AtomicFile;
import dev.qat.data.HfModelWriter;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * What a GGUF file says of a model, as a Hugging Face directory says it, without weights: config.json and the tokenizer. The
 * directory is temporary and goes with {@link #close}.
 *
 * <p>The tokenizer is the original where it lies beside the file or in the run the file was exported from, else the file's own.
 */
public final class GgufDir implements AutoCloseable {
    private final Path dir;

    private GgufDir(Path dir) {
        this.dir = dir;
    }

    public static GgufDir of(GgufIn in) {
        try {
            GgufDir made = new GgufDir(Files.createTempDirectory("qat-gguf"));
            try {
                made.fill(in);
                return made;
            } catch (RuntimeException e) {
                made.close();
                throw e;
            }
        } catch (IOException e) {
            throw Fail.io(e, "cannot create a temporary directory: %s", e.getMessage());
        }
    }

    private void fill(GgufIn in) {
        AtomicFile.write(dir.resolve("config.json"), in.configJson().toPrettyString());
        Optional<Path> original = original(in.file().file());
        if (original.isPresent()) HfModelWriter.copyTokenizer(original.get(), dir);
        else GgufTokenizerIn.of(in.file()).forEach((name, json) -> AtomicFile.write(dir.resolve(name), json.toString()));
    }

    /** The directory with a tokenizer.json that belongs to a file: where it lies, or the model of the run it was exported from. */
    private static Optional<Path> original(Path file) {
        Path beside = file.toAbsolutePath().getParent();
        return Stream.of(beside, beside.resolveSibling("model")).filter(p -> Files.isRegularFile(p.resolve("tokenizer.json"))).findFirst();
    }

    public Path dir() {
        return dir;
    }

    @Override
    public void close() {
        try (Stream<Path> inside = Files.list(dir)) {
            for (Path p : inside.toList()) Files.delete(p);
            Files.delete(dir);
        } catch (IOException e) {
            System.err.println("qat: could not remove " + dir + ": " + e.getMessage());
        }
    }
}
