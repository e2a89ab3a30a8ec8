package dev.qat.cli;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

class ProgressTest {
    private static final long SECOND = 1_000_000_000;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final PrintStream out = new PrintStream(bytes, true, UTF_8);
    private final AtomicLong now = new AtomicLong(5 * SECOND);

    @Test
    void linesComeFirstLastAndEveryTenSeconds() {
        try (Progress progress = new ProgressLog(out, now::get, "train", 1000)) {
            for (int i = 1; i <= 25; i++) {
                now.addAndGet(SECOND);
                progress.step(i, "loss 2.3412");
            }
            progress.say("checkpoint saved");
            progress.step(1000, "");
        }
        assertEquals("""
                train: 1000 steps
                step 1 | loss 2.3412
                step 11 | loss 2.3412
                step 21 | loss 2.3412
                checkpoint saved
                step 1000
                train: done in 25.0 s
                """, bytes.toString(UTF_8));
    }

    @Test
    void aShortTaskIsHeardOfMoreOften() {
        try (Progress progress = new ProgressLog(out, now::get, "block 3", 40)) {
            for (int i = 1; i <= 8; i++) {
                now.addAndGet(SECOND * 6 / 10);
                progress.step(i, "loss 1");
            }
        }
        assertEquals("""
                block 3: 40 steps
                step 1 | loss 1
                step 3 | loss 1
                step 5 | loss 1
                step 7 | loss 1
                block 3: stopped after step 8 of 40, 4.8 s
                """, bytes.toString(UTF_8));
    }

    @Test
    void withoutATerminalThereIsNoBar() {
        PrintStream before = System.err;
        System.setErr(out);
        try (Progress progress = Progress.start("train", 1)) {
            assertInstanceOf(ProgressLog.class, progress);
            progress.step(1, "loss 1");
        } finally {
            System.setErr(before);
        }
        assertTrue(bytes.toString(UTF_8).startsWith("train: 1 step\nstep 1 | loss 1\ntrain: done in "));
    }

    @Test
    void theBarGivesWayToTheFigures() {
        String details = "loss 2.3412 | 412 ms";
        assertEquals("train  42% ━━━━━━━━━━━━━───────────────── 420/1000 | loss 2.3412 | 412 ms",
                ProgressLine.layOut("train", .4201, "420/1000", details, 120, true));
        assertEquals("train  42% ####...... 420/1000 | loss 2.3412 | 412 ms",
                ProgressLine.layOut("train", .4201, "420/1000", details, 53, false));
        assertEquals("train  42% 420/1000 | loss 2.3412 | 412 ms", ProgressLine.layOut("train", .4201, "420/1000", details, 46, true));
        assertEquals("train  42% 420/1000 |...", ProgressLine.layOut("train", .4201, "420/1000", details, 24, true));
        assertEquals("train  99% 1999/2000", ProgressLine.layOut("train", .9995, "1999/2000", "", 24, true));
    }

    @Test
    void theBarDrawsOverItselfAndEndsItsLine() {
        try (Progress progress = new ProgressLine(out, () -> 60, true, "train", 4)) {
            progress.step(2, "loss 2");
            progress.say("checkpoint saved");
            progress.step(4, "loss 1");
        }
        String text = bytes.toString(UTF_8);
        assertTrue(text.contains("\r\u001b[Kcheckpoint saved\n"), text);
        assertTrue(text.matches("(?s).*\r\u001b\\[Ktrain 100% ━{30} 4/4 \\| loss 1\n"), text);
    }
}
