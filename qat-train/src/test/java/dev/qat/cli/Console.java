package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** What a test's commands print, kept instead of shown. */
final class Console implements BeforeEachCallback, AfterEachCallback {
    private static final ObjectMapper JSON = new ObjectMapper();

    final ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
    private PrintStream realOut, realErr;

    @Override
    public void beforeEach(ExtensionContext test) {
        realOut = System.out;
        realErr = System.err;
        System.setOut(new PrintStream(out, true, UTF_8));
        System.setErr(new PrintStream(err, true, UTF_8));
    }

    @Override
    public void afterEach(ExtensionContext test) {
        System.setOut(realOut);
        System.setErr(realErr);
    }

    /** Runs a command that ends with {@code code}: what it printed, on standard output if that is 0, else on standard error. */
    String run(int code, String... command) {
        out.reset();
        err.reset();
        assertEquals(code, Main.run(command), err.toString(UTF_8));
        return (code == 0 ? out : err).toString(UTF_8);
    }

    /** Judges a model on a text: the line of numbers. */
    JsonNode eval(Path model, Path text, String... words) throws IOException {
        Stream<String> command = Stream.of("eval", "--model", model.toString(), "--text", text.toString(), "--json", "threads=1");
        return JSON.readTree(run(0, Stream.concat(command, Stream.of(words)).toArray(String[]::new)));
    }

    /** From here on errors are shown. */
    void show() {
        System.setErr(realErr);
    }

    /** Shows a line all the same, such as what is skipped. */
    void shout(String line) {
        realErr.println(line);
    }
}
