package dev.qat.cli;

import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.util.List;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

class MainTest {
    /** A verb that ends in the way its argument names. */
    @Command(name = "end")
    static final class End implements Runnable {
        @Parameters(index = "0")
        private String how;

        @Override
        public void run() {
            switch (how) {
                case "data" -> throw Fail.data("the file x.txt is empty");
                case "numeric" -> throw new CompletionException(Fail.numeric("step 3: the loss is NaN"));
                case "memory" -> throw new OutOfMemoryError("Java heap space");
                case "bug" -> throw new IllegalStateException("never");
                case "error" -> throw new StackOverflowError();
                default -> System.out.println("well");
            }
        }
    }

    @RegisterExtension
    final Console console = new Console();
    private final ByteArrayOutputStream out = console.out, err = console.err;

    private int end(String how) {
        return Main.run(List.of(End.class), "end", how);
    }

    private String err() {
        return err.toString(UTF_8);
    }

    @Test
    void aFailGivesItsCodeAndOneSentence() {
        assertEquals(65, end("data"));
        assertEquals("qat: the file x.txt is empty\n", err());
    }

    @Test
    void aFailIsFoundBeneathWhatWrapsIt() {
        assertEquals(79, end("numeric"));
        assertEquals("qat: step 3: the loss is NaN\n", err());
    }

    @Test
    void noMemoryIsASentence() {
        assertEquals(70, end("memory"));
        assertTrue(err().startsWith("qat: out of memory (Java heap space). The Java heap may grow to "), err());
        assertEquals(1, err().lines().count());
    }

    @Test
    void aBugShowsItsTrace() {
        assertEquals(70, end("bug"));
        assertTrue(err().startsWith("qat: this is a bug in qat"), err());
        assertTrue(err().contains("IllegalStateException: never\n\tat dev.qat.cli.MainTest"), err());
        assertEquals(70, end("error"));
        assertTrue(err().contains("StackOverflowError"), err());
    }

    @Test
    void aGoodEndIsZero() {
        assertEquals(0, end("well"));
        assertEquals("well\n", out.toString(UTF_8));
        assertEquals("", err());
    }

    @Test
    void misuseIsTwoAndSaysWhatIsKnown() {
        assertEquals(2, Main.run("doktor"));
        assertTrue(err().startsWith("qat: no verb 'doktor'; did you mean 'doctor'? Known: "), err());
        err.reset();
        assertEquals(2, Main.run());
        assertTrue(err().startsWith("qat: no verb given. Known: "), err());
        err.reset();
        assertEquals(2, Main.run("doctor", "--jsn"));
        assertTrue(err().startsWith("qat: Unknown option: '--jsn'"), err());
        assertTrue(err().endsWith("Try 'qat doctor --help'.\n"), err());
        assertEquals("", out.toString(UTF_8));
    }

    @Test
    void helpAndVersionGoToStandardOutput() {
        assertEquals(0, Main.run("--help"));
        assertTrue(out.toString(UTF_8).contains("qat VERB [recipe.yaml] [key=value ...]"));
        assertTrue(out.toString(UTF_8).contains("doctor"));
        out.reset();
        assertEquals(0, Main.run("--version"));
        assertTrue(out.toString(UTF_8).startsWith("qat "));
        assertFalse(out.toString(UTF_8).contains("null"));
        assertEquals("", err());
    }
}
