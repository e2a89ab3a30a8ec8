package dev.qat.eval;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.data.TextFiles;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

class WikitextTest {
    /** The string behind every published WikiText-2 perplexity, made from the raw test file. */
    @Test
    void theEvaluationStringIsThePublishedOne() throws Exception {
        Path raw = Path.of(System.getProperty("qat.shared", "shared-not-given")).resolve("assets/text/wikitext2_test.raw");
        if (!Files.exists(raw)) {
            System.err.println("SKIPPED: " + raw + " is missing; run with -Dqat.shared=FOLDER to test against the real files");
            Assumptions.abort(raw + " is missing");
        }
        byte[] joined = Protocol.wikitextRows(TextFiles.read(raw).getFirst().text()).getBytes(UTF_8);
        assertEquals(1_296_370, joined.length);
        assertEquals("696cca6b65a171b0a358a4be6732cdfdf2dd6164a32e20fd70e3c13fc4dfae83", HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(joined)));
    }
}
