package dev.qat.data;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.qat.data.TextFiles.Document;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TextFilesTest {
    @TempDir
    Path dir;

    private Path plain(String name, String content) throws IOException {
        return Files.writeString(dir.resolve(name), content);
    }

    private Path zipped(String name, String content) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (GZIPOutputStream out = new GZIPOutputStream(bytes)) {
            out.write(content.getBytes(StandardCharsets.UTF_8));
        }
        return Files.write(dir.resolve(name), bytes.toByteArray());
    }

    @Test
    void aTextFileIsOneDocumentUnchanged() throws IOException {
        String text = " one\r\n\r\ntwo 😀\n";
        for (Path file : List.of(plain("a.txt", text), plain("b.raw", text), zipped("c.txt.gz", text), zipped("D.TXT.GZ", text))) {
            assertEquals(List.of(new Document(text, file.toString())), TextFiles.read(file));
        }
        assertEquals("x", TextFiles.read(plain("mark.txt", "\ufeffx")).getFirst().text());
    }

    @Test
    void aJsonLinesFileIsADocumentALine() throws IOException {
        String lines = "{\"text\": \"a\\nb\", \"id\": 1}\n\n  {\"text\":\"\\u00e4 😀\"}\r\n{\"text\": \"last\"}";
        for (Path file : List.of(plain("a.jsonl", lines), zipped("a.jsonl.gz", lines), plain("mark.jsonl", "\ufeff" + lines))) {
            assertEquals(List.of(new Document("a\nb", file + ":1"), new Document("ä 😀", file + ":3"), new Document("last", file + ":4")),
                    TextFiles.read(file));
        }
    }

    @Test
    void badLinesAreNamedByFileAndLine() throws IOException {
        String good = "{\"text\": \"a\"}\n";
        for (String bad : List.of("{\"content\": \"b\"}", "{\"text\": 5}", "{\"text\": null}", "[\"text\"]", "{\"text\": \"b\"", "{\"text\": \"\"}",
                "{\"text\": \"a\"} {\"text\": \"b\"}")) {
            Path file = plain("bad.jsonl", good + "\n" + bad + "\n" + good);
            Failing.data(() -> TextFiles.read(file), file + ":3");
        }
        Path fine = plain("bad.jsonl", good + "{\"content\": \"b\"}");
        Failing.data(() -> TextFiles.read(fine), fine + ":2", "no field \"text\"");
    }

    @Test
    void emptyMissingAndForeignFilesAreRefused() throws IOException {
        for (Path file : List.of(plain("e.txt", ""), plain("s.txt", " \n\t"), plain("e.jsonl", "\n\n"), zipped("e.txt.gz", ""))) {
            Failing.data(() -> TextFiles.read(file), file, "text");
        }
        Failing.data(() -> TextFiles.read(dir.resolve("none.txt")), dir.resolve("none.txt"), "no such");
        Failing.data(() -> TextFiles.read(dir), dir);
        byte[] latin1 = "na\u00efve".getBytes(StandardCharsets.ISO_8859_1);
        for (String name : List.of("l.txt", "l.jsonl")) {
            Path file = Files.write(dir.resolve(name), latin1);
            Failing.data(() -> TextFiles.read(file), file, "not UTF-8");
        }
    }

    @Test
    void damagedGzipIsRefused() throws IOException {
        Path whole = zipped("w.txt.gz", "a text that is long enough to cut".repeat(50));
        byte[] bytes = Files.readAllBytes(whole);
        Path cut = Files.write(dir.resolve("cut.txt.gz"), Arrays.copyOf(bytes, bytes.length - 12));
        Failing.data(() -> TextFiles.read(cut), cut, "damaged gzip");
        bytes[bytes.length / 2] ^= 0x55;
        Path flipped = Files.write(dir.resolve("flipped.txt.gz"), bytes);
        Failing.data(() -> TextFiles.read(flipped), flipped, "damaged gzip");
        Path plain = plain("plain.txt.gz", "not zipped");
        Failing.data(() -> TextFiles.read(plain), plain, "damaged gzip");
    }

    @Test
    void aPartOfATextIsCountedInCharactersAsPythonDoes() {
        String text = "a\uD834\uDD1Eb\u00e9c"; // a, a clef beyond the 16-bit range, b, e with an accent, c: 5 characters in 6 chars
        assertEquals("b\u00e9c", TextFiles.part(text, 2, 0));
        assertEquals("\uD834\uDD1Eb", TextFiles.part(text, 1, 2));
        assertEquals(text, TextFiles.part(text, 0, 5));
        assertEquals("c", TextFiles.part(text, 4, 100));
        Failing.data(() -> TextFiles.part(text, 5, 0), "skip = 5 leaves nothing of a text of 5 characters");
    }

    @Test
    void theSharedBenchmarksAreRead() {
        List<Document> lambada = TextFiles.read(Shared.asset("benchmarks/lambada_test.jsonl.gz"));
        assertEquals(5153, lambada.size());
        assertEquals(197_290, TextFiles.read(Shared.asset("text/tinystories_head.txt")).getFirst().text().getBytes(StandardCharsets.UTF_8).length);
    }
}
