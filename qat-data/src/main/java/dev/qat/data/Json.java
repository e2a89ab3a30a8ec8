package dev.qat.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.core.util.Separators;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.json.JsonMapper;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** JSON files in and out, with the file, line and column in every complaint. */
final class Json {
    /** Python writes NaN and Infinity into configs, so they are read; two values in one file are a mistake. */
    static final JsonMapper MAPPER = JsonMapper.builder()
            .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    // As Python's json.dump(indent=2) lays a file out.
    private static final ObjectWriter PRETTY = MAPPER.writer(new DefaultPrettyPrinter(
            Separators.createDefaultInstance().withObjectFieldValueSpacing(Separators.Spacing.AFTER))
            .withObjectIndenter(new DefaultIndenter("  ", "\n")).withArrayIndenter(new DefaultIndenter("  ", "\n")));

    private Json() {}

    /** The JSON object in a file that must exist. */
    static JsonNode object(Path file) {
        try {
            return object(file, Files.readAllBytes(file));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s; check the path and its permissions", file, AtomicFile.why(e));
        }
    }

    /** The JSON object in bytes that came from {@code file}. */
    static JsonNode object(Path file, byte[] bytes) {
        try {
            JsonNode node = MAPPER.readTree(bytes);
            if (node.isObject()) return node;
            throw Fail.data("%s: holds a JSON %s, expected an object { ... }; restore the original file",
                    file, node.getNodeType().toString().toLowerCase());
        } catch (JsonProcessingException e) {
            throw Fail.data("%s: not valid JSON: %s; restore the original file", file, brief(e));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s", file, AtomicFile.why(e));
        }
    }

    static String pretty(JsonNode node) {
        try {
            return PRETTY.writeValueAsString(node) + "\n";
        } catch (JsonProcessingException e) {
            throw Fail.internal("a JSON tree could not be written: %s", e.getOriginalMessage());
        }
    }

    /** Jackson's complaint in one line: what, line, column. */
    static String brief(JsonProcessingException e) {
        String what = e.getOriginalMessage().lines().findFirst().orElse("unreadable");
        return e.getLocation() == null ? what
                : what + " at line " + e.getLocation().getLineNr() + ", column " + e.getLocation().getColumnNr();
    }
}
