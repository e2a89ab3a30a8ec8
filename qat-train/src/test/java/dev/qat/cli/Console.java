package dev.qat.cli;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** What a test's commands print, kept instead of shown. */
final class Console implements BeforeEachCallback, AfterEachCallback {
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

    /** From here on errors are shown. */
    void show() {
        System.setErr(realErr);
    }

    /** Shows a line all the same, such as what is skipped. */
    void shout(String line) {
        realErr.println(line);
    }
}
