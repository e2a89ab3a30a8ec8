package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.export.LlamaProducts;
import dev.qat.tensor.Fail;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files of two types are written, weighed and spoken from. */
final class BenchFilesTest {
    @TempDir
    Path temp;

    @Test
    @SuppressWarnings("try")
    void aFileOfHalfTheBits() throws Exception {
        try (LlamaProducts llama = new LlamaProducts()) {
            TinyDir.in(temp);
        } catch (Fail e) {
            Assumptions.abort("llama.cpp does not run here: " + e.getMessage());
        }
        PrintStream before = System.out;
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
        try {
            assertEquals(0, Main.run("bench", "files", "--model", temp.resolve("model").toString(), "--types", "f32,f16", "--tokens", "4", "--rounds", "1", "--threads", "1"));
        } finally {
            System.setOut(before);
        }
        String[] lines = bytes.toString(StandardCharsets.UTF_8).strip().split("\n");
        assertEquals(2, lines.length);
        JsonNode f32 = new ObjectMapper().readTree(lines[0]), f16 = new ObjectMapper().readTree(lines[1]);
        assertTrue(f32.get("bytes").asLong() > f16.get("bytes").asLong() && f16.get("llama_cpp_tokens_per_second").asDouble() > 0, lines[1]);
        assertEquals(16, f16.get("bits_per_weight_of_linears").asDouble());
    }
}
