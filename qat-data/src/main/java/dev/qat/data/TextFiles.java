package dev.qat.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.tensor.Fail;
import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipException;

/**
 * The user's text: a {@code .jsonl} file is one document a line (its field {@code text}), any other file is one document;
 * either may be gzipped ({@code .gz}). UTF-8 only, and an empty document is an error rather than a silent nothing.
 */
public final class TextFiles {
    /** A text and where it came from: the file, or file:line. */
    public record Document(String text, String origin) {}

    // A document is one Java array; far larger ones would not tokenize in one piece either.
    private static final int MAX_BYTES = 1 << 30;

    private TextFiles() {}

    public static List<Document> read(Path file) {
        List<Document> documents = new ArrayList<>();
        forEach(file, documents::add);
        return documents;
    }

    /** Gives the documents in order, one in memory at a time. */
    public static void forEach(Path file, Consumer<Document> reader) {
        if (!Files.isRegularFile(file)) throw Fail.data("%s: no such text file; check the path", file);
        String name = file.getFileName().toString().toLowerCase(Locale.ROOT);
        try (InputStream raw = Files.newInputStream(file);
                InputStream in = name.endsWith(".gz") ? new GZIPInputStream(raw, 1 << 16) : raw) {
            if (name.endsWith(".jsonl") || name.endsWith(".jsonl.gz")) lines(file, in, reader);
            else whole(file, in, reader);
        } catch (CharacterCodingException e) {
            throw Fail.data("%s: not UTF-8 text; convert it (iconv -t UTF-8)", file);
        } catch (ZipException | EOFException e) {
            throw Fail.data("%s: damaged gzip file (%s); download or compress it again", file, AtomicFile.why(e));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s; check its permissions", file, AtomicFile.why(e));
        }
    }

    /** The text without its first {@code skip} characters, at most {@code most} (0: all); a character is a Unicode code point, as in Python. */
    public static String part(String text, int skip, int most) {
        int have = text.codePointCount(0, text.length());
        if (skip >= have) throw Fail.data("skip = %d leaves nothing of a text of %d characters; skip fewer", skip, have);
        int begin = text.offsetByCodePoints(0, skip);
        return text.substring(begin, most == 0 || most >= have - skip ? text.length() : text.offsetByCodePoints(begin, most));
    }

    private static void whole(Path file, InputStream in, Consumer<Document> reader) throws IOException {
        byte[] bytes = in.readNBytes(MAX_BYTES + 1);
        if (bytes.length > MAX_BYTES) {
            throw Fail.data("%s: one document of more than %d bytes; split it, or give a .jsonl file with a document a line", file, MAX_BYTES);
        }
        // A decoder of its own: new String(bytes) would replace what is not UTF-8 without a word.
        String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        reader.accept(new Document(filled(withoutMark(text), file.toString()), file.toString()));
    }

    private static void lines(Path file, InputStream in, Consumer<Document> reader) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8.newDecoder()));
        int number = 0, documents = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String origin = file + ":" + ++number;
            if (line.isBlank()) continue;
            String json = number == 1 ? withoutMark(line) : line;
            reader.accept(new Document(filled(field(json, origin), origin), origin));
            documents++;
        }
        if (documents == 0) throw Fail.data("%s: holds no documents; give a file with text", file);
    }

    private static String field(String line, String origin) {
        try {
            JsonNode text = Json.MAPPER.readTree(line).path("text");
            if (text.isTextual()) return text.textValue();
            throw Fail.data("%s: the line has no field \"text\" with a string; every line is {\"text\": \"...\"}", origin);
        } catch (JsonProcessingException e) {
            throw Fail.data("%s: not valid JSON (%s); every line is {\"text\": \"...\"}", origin, Json.brief(e));
        }
    }

    private static String filled(String text, String origin) {
        if (text.isBlank()) throw Fail.data("%s: the text is empty; give a file with text or remove the line", origin);
        return text;
    }

    /** Windows editors begin a file with a byte order mark, which is no part of the text. */
    private static String withoutMark(String text) {
        return text.startsWith("\uFEFF") ? text.substring(1) : text;
    }
}
